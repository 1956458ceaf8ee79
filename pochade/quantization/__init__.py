"""Fits 8-bit grids for a model's products to statistics of their inputs, and stores them."""
