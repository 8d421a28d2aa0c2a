"""Benchmarks: five scripts, each of which answers one question. See README.md."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
