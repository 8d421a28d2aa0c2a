"""`python -m kvtwist` is the `kvtwist` command."""

from kvtwist.cli.main import main

main()
