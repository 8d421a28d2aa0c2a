"""What the kernel knows of a process's memory."""

from __future__ import annotations

import re
from pathlib import Path

MIB = 2**20


def peak_memory(pid: int) -> int:
    """The most memory that a process has had, in bytes, since it began or `forget_peak` was called."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+([0-9]+) kB$", status, re.MULTILINE)
    assert found is not None, status
    return int(found[1]) * 1024


def forget_peak(pid: int) -> int:
    """Let the peak begin anew with the memory that a process has now; returns how much that is."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_memory(pid)
