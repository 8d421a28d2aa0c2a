"""Shared by tests: servers, clients, profiles, and stand-ins for the kernel and the disk."""
