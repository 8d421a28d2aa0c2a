"""Limits of the operating system, and Python's garbage collector."""

from __future__ import annotations

import gc
import resource

from twisted.logger import Logger

log = Logger(namespace="kvtwist")

WANTED_FILES = 65_536
RESERVED_FILES = 96
"""
Open files that are not for connections: the store's (its lock, the journal, the files of three threads, and eight of
the reserve), the epolls of reactor and front, listening sockets, logs, files that Python and /metrics read, and
`ADMIN_CONNECTIONS` for the admin site.
"""
ADMIN_CONNECTIONS = 32


def raise_file_limit() -> int | None:
    """Raise the limit of open files as far as allowed; returns the limit, None if there is none."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard == resource.RLIM_INFINITY else max(hard, WANTED_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):  # only root may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def connections_within(files: int | None, wanted: int) -> int:
    """How many connections to allow, of those wanted, so that the store can still open its files."""
    most = wanted if files is None else min(wanted, max(files - RESERVED_FILES, 1))
    if most < wanted:
        log.info(
            "at most {most} connections instead of {wanted}: the process may open {files} files (ulimit -n), and "
            "{reserved} of them are reserved",
            most=most,
            wanted=wanted,
            files=files,
            reserved=RESERVED_FILES,
        )
    return most


def spare_collector() -> None:
    """
    Freeze the objects that live as long as the server, such as modules, classes and routes (`gc.freeze`).

    A garbage collection stops all threads while it examines every object, and busy writers cause many collections.
    """
    gc.collect()
    gc.freeze()
