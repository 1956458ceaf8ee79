"""The command `pochade`: one file for each subcommand."""
