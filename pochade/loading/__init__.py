"""From a path to networks on an engine: loading, choosing where to compute, adapters, conversion."""
