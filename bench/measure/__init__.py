"""Shared by all benchmarks: the machine, processes that take turns, and records."""
