"""What the black-box tests share: servers, clients, and what the profiles have in common."""
