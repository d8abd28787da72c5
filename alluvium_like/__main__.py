"""`python -m alluvium_like` is the command line."""

from alluvium_like.cli.main import main

main()
