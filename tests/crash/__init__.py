"""What a power loss or a kill leaves of a store, at every moment of random histories. See docs/testing.md."""
