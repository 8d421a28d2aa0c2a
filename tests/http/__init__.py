"""What each profile answers, by its spec: requests in, responses out, and no look inside."""
