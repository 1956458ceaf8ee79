"""The HTTP API dialects, one folder each. They use the service and do not import one another."""
