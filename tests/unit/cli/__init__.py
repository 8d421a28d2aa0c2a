"""The `kvtwist` command: what it says, what it does, and what it must never do."""
