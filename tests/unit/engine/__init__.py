"""The embedded store: each part, each fault and each crash."""
