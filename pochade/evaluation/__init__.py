"""How well a model obeys its prompts, measured by means of this project's own. See docs/evaluation.md."""

MEASURES = ("held-out", "composed", "autoencoder", "frechet", "diversity", "memorisation", "sheet")
"""The names of all measures, in the order of the report."""
