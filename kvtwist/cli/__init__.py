"""
The `kvtwist` command maintains the directory of a store. docs/tools.md describes it.

Each command has a module; `main` groups them and turns errors into exit codes.
"""
