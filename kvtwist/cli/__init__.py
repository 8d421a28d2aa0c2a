"""
The `kvtwist` command: looks after the directory of a store that no server has open. docs/tools.md describes it.

One module for each command; `main` puts them together and turns errors into exit codes.
"""
