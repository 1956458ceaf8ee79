"""What is learned from: sentences, scenes, the vocabulary, latents and their shapes."""
