"""What an operator sees: logs, the access log, metrics; and what the process needs of the system."""
