"""What the process asks of what it runs on: the system, and Python."""

from __future__ import annotations

import gc
import resource

from twisted.logger import Logger

log = Logger(namespace="kvtwist")

WANTED_FILES = 65_536


def raise_file_limit() -> None:
    """Allow as many open files, which is connections, as the system lets us; say so if that is not many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard == resource.RLIM_INFINITY else max(hard, WANTED_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):  # only root may go beyond the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < WANTED_FILES:
        log.info("at most {limit} open files, and so somewhat fewer connections (ulimit -n)", limit=limit)


def spare_collector() -> None:
    """
    Keep all that there is by now out of Python's search for garbage: modules, classes, routes, which stay to the end.

    A search holds all threads for as long as it takes, and busy writers cause one again and again; what that does to
    their slowest requests is in docs/benchmarks.md.
    """
    gc.collect()
    gc.freeze()
