"""What several dialects build on."""
