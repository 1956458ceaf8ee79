"""Generation: from a request and a model to pictures and their parameters text."""
