"""What the black-box tests share: servers, clients, and what the dialects have in common."""
