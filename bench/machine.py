"""The machine that is measured on, and what its kernel says about a process. Imports nothing but the library."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from statistics import median


def describe(directory: Path) -> str:
    """One line: figures of two machines cannot be compared."""
    processor = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return ", ".join(
        (
            f"{processor[1] if processor else platform.machine()}, {os.cpu_count()} cores",
            f"{memory / 2**30:.0f} GiB of memory",
            f"Linux {platform.release()}",
            f"CPython {platform.python_version()}",
            f"a synced write of 4 KiB takes {_sync_seconds(directory) * 1e6:.0f} µs",
            f"load {os.getloadavg()[0]:.1f} at the start",
        )
    )


def _sync_seconds(directory: Path) -> float:
    path = directory / "sync-probe"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(101):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file)
            times.append(time.perf_counter() - started)
    path.unlink()
    return median(times)


def peak_resident(process: int | str = "self") -> int:
    """The most bytes that were resident since the start or `forget_peak`; psutil does not know this figure."""
    return _kernel_figure(f"/proc/{process}/status", "VmHWM") * 1024


def forget_peak(process: int | str = "self") -> None:
    """Count `peak_resident` from now on."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def bytes_written() -> int:
    """
    What this process has handed to write(2) and its like: exact, and free of other processes.

    Not `write_bytes`: the kernel counts there what became dirty by whole folios, which can be 256 times what it writes.
    """
    return _kernel_figure("/proc/self/io", "wchar")


def _kernel_figure(path: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", Path(path).read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def disk_bytes(directory: Path) -> int:
    """What the files below a directory take on the disk, without holes."""
    size = 0
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:  # a running server has just removed it
                continue
    return size
