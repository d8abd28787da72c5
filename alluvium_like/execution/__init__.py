"""Everything that the daemon runs: agents, tests and git, each with a deadline and a sure end."""
