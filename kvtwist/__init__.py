"""kvtwist: a durable key-value server on Twisted with six HTTP profiles over one store."""

__version__ = "0.1.0"
