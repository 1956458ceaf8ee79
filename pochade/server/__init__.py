"""The HTTP server: one job queue, one authentication, several API dialects. Needs the extra `serve`."""
