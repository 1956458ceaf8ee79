"""Adapters: LoRA and related formats, and textual inversion embeddings."""
