"""The studio over HTTP: one queue, one way to log in, several dialects. Needs the extra `serve`."""
