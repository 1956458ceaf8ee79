"""Families of models: one object for each holds everything that differs between them."""
