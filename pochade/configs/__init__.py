"""Configurations of networks, and the JSON that diffusers and transformers store them in."""
