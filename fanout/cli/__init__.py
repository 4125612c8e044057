"""The command line: one subcommand a file. Data goes to stdout, errors to stderr, in one line that says what to do."""
