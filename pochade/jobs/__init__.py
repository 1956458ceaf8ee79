"""Jobs that survive: accepted once, drawn by a process of their own, finished exactly once."""
