"""Families of models: what differs between kinds of models, in one object for each kind."""
