"""What each profile answers, told from the specs: requests in, replies out, nothing of the inside."""
