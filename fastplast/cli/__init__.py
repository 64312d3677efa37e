"""The command line: parser, flags, commands, and what they print."""
