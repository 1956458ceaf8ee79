"""Pulls models from the Hugging Face hub. Nothing here runs unless a user requests a pull."""
