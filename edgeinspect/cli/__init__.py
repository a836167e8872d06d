"""The command line. Each subcommand is a file, imported when it is called."""
