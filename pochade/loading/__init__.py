"""Loading: from a path to a model whose networks run on an engine."""
