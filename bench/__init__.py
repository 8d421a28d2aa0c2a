"""Measures kvtwist's engine beside its peers, and its server under a memory limit. See bench/README.md."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The project: where child processes find it, and this package."""
