"""kvtwist: a durable key-value server on Twisted with five HTTP profiles over one store."""

__version__ = "0.1.0"
