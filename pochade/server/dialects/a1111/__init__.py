"""The API of A1111's web UI and of its ControlNet extension."""
