"""The command line interface `pochade`, one module per subcommand."""
