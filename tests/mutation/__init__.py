"""How many small faults of a module its tests notice; see docs/testing.md."""
