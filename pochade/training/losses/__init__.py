"""The losses of each network."""
