"""Fetching models from the Hugging Face hub. Nothing here runs unless a user asks for a pull."""
