"""Measures how well a model follows its prompts, with a scorer trained by this project. See
docs/evaluation.md."""

MEASURES = (
    "held-out",
    "composed",
    "autoencoder",
    "frechet",
    "sharpness",
    "diversity",
    "memorisation",
    "sheet",
)
"""The names of all measures, in the order of the report."""
