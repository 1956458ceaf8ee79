"""Persistent jobs: accepted once, drawn by a worker process, finished exactly once."""
