"""What several profiles build on."""
