"""Training data: captions, scenes, the vocabulary, latents and their sizes."""
