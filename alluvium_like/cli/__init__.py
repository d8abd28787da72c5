"""The command line: prints, and nothing else. One file per group of commands, imports are lazy."""
