"""Small files that change a model: LoRA and its relatives, and embeddings of new words."""
