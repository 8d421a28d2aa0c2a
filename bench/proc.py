"""What Linux says of a process and of the machine, in /proc and /sys: at next to no cost to what is measured."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen


@frozen
class Memory:
    """
    Bytes of a process in memory.

    :ivar resident: all of it (VmRSS).
    :ivar peak: the most there ever was, since the start or since `forget_peak` (VmHWM).
    :ivar anonymous: what is the process's own, and not a file that is mapped (RssAnon).
    """

    resident: int
    peak: int
    anonymous: int


def memory(process: int | str = "self") -> Memory:
    """:raises OSError: there is no such process."""
    fields = _fields(Path(f"/proc/{process}/status"))
    return Memory(*(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM", "RssAnon")))


def forget_peak(process: int | str = "self") -> None:
    """Count `Memory.peak` from now on."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


@frozen
class Traffic:
    """
    Bytes that a process has moved since its start.

    :ivar written: handed to write(2) and its kin (`wchar`). Not `write_bytes`: that counts what became dirty in the
        kernel's cache, by whole folios, and a folio may be two megabytes. One block of 4 KiB rewritten in a file that
        was written in pieces of 1 MiB has been seen to count 256-fold, when the disk got just the block.
    :ivar fetched: read from the disk, not from the kernel's cache (`read_bytes`).
    """

    written: int
    fetched: int


def traffic(process: int | str = "self") -> Traffic:
    """:raises OSError: there is no such process."""
    fields = _fields(Path(f"/proc/{process}/io"))
    return Traffic(int(fields["wchar"]), int(fields["read_bytes"]))


def _fields(path: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


# --- directories ------------------------------------------------------------------------------------------------------


def disk_bytes(directory: Path) -> int:
    """What the files below a directory take on the disk, holes left out."""
    return sum(status.st_blocks * 512 for status in _files(directory))


def device_written(directory: Path) -> int | None:
    """
    Bytes that the disk below a directory has been given since the machine's start, after all that waits was.

    It knows what a process's own counters do not: whole blocks, and the file system's journal. And it knows nothing of
    processes: on a machine where others write, it is too much. None where there is no such disk.
    """
    os.sync()
    device = os.stat(directory).st_dev
    statistics_file = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(statistics_file.read_text().split()[6]) * 512 if statistics_file.exists() else None


def _files(directory: Path) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                yield os.stat(os.path.join(place, name))
            except FileNotFoundError:  # a running server may remove what it was listed with
                continue


def forget_cached(directory: Path) -> None:
    """Let the kernel give up what it has cached of the files below a directory: the next read is the disk's."""
    for place, _, names in os.walk(directory):
        for name in names:
            descriptor = os.open(os.path.join(place, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


# --- the machine ------------------------------------------------------------------------------------------------------


def machine(directory: Path) -> str:
    """One line about what was measured on: figures of two machines are not comparable."""
    return ", ".join(
        (
            f"{_processor()}, {os.cpu_count()} cores",
            f"{_total_memory() / 2**30:.0f} GiB of memory",
            f"Linux {platform.release()}",
            f"{file_system(directory)}, where 4 KiB and fdatasync take {sync_seconds(directory) * 1e6:.0f} µs",
            f"{platform.python_implementation()} {platform.python_version()}",
            f"load {os.getloadavg()[0]:.1f} at the start",
        )
    )


def _processor() -> str:
    return _fields(Path("/proc/cpuinfo")).get("model name\t", platform.machine())


def _total_memory() -> int:
    return int(_fields(Path("/proc/meminfo"))["MemTotal"].split()[0]) * 1024


def file_system(directory: Path) -> str:
    """The type of the file system that a directory is on."""
    wanted = os.stat(directory).st_dev
    found = "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        major, _, minor = mount.split()[2].partition(":")
        if os.makedev(int(major), int(minor)) == wanted:
            found = source.split()[0]
    return found


def sync_seconds(directory: Path) -> float:
    """Median time of a durable write, which bounds what one writer can do."""
    path = directory / "sync-probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    times = []
    try:
        for _ in range(101):
            started = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - started)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times)


def source_version(root: Path) -> str:
    """The commit that was measured, and whether there was more in the tree than that."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False, timeout=10
    )
    return described.stdout.strip() or "unknown"
