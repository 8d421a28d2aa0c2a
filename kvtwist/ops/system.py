"""What the process asks of what it runs on: the system, and Python."""

from __future__ import annotations

import gc
import resource

from twisted.logger import Logger

log = Logger(namespace="kvtwist")

WANTED_FILES = 65_536
RESERVED_FILES = 96
"""
Open files that are not for connections: the store's (its lock, the journal, what three threads read and write, and a
reserve of eight), the reactor's and the front's own, listening sockets, logs, and what Python and /metrics look at.
Of these `ADMIN_CONNECTIONS` are for the admin site.
"""
ADMIN_CONNECTIONS = 32


def raise_file_limit() -> int | None:
    """Allow as many open files as the system lets us; returns how many that is, None for any number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard == resource.RLIM_INFINITY else max(hard, WANTED_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):  # only root may go beyond the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def connections_within(files: int | None, wanted: int) -> int:
    """How many connections there may be, of those that are wanted, so that they leave the store its files."""
    most = wanted if files is None else min(wanted, max(files - RESERVED_FILES, 1))
    if most < wanted:
        log.info(
            "at most {most} connections instead of {wanted}: this process may have no more than {files} files open "
            "(ulimit -n), of which {reserved} are not for connections",
            most=most,
            wanted=wanted,
            files=files,
            reserved=RESERVED_FILES,
        )
    return most


def spare_collector() -> None:
    """
    Keep all that there is by now out of Python's search for garbage: modules, classes, routes, which stay to the end.

    A search holds all threads for as long as it takes, and busy writers cause one again and again; what that does to
    their slowest requests is in docs/benchmarks.md.
    """
    gc.collect()
    gc.freeze()
