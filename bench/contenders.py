"""Who takes part, by the names that the command line and the tables use."""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen

from bench.contender import Contender


@frozen
class Entrant:
    """
    :ivar durable: whether an acknowledged write has been synced.
    :ivar can: what it can do that not all can: `checkpoint`, `expire`.
    :ivar largest: the most keys that it is tried with.
    """

    name: str
    durable: bool = True
    can: frozenset[str] = frozenset()
    largest: int | None = None


DEFAULT: Final = ("kvtwist", "sqlite", "lmdb", "dirdbm")
QUICK: Final = DEFAULT[:-1]
"""DirDBM takes longer than all others together."""

_KVTWIST = re.compile(r"kvtwist(?:@(?P<mebibytes>\d+)MiB)?")
_PEERS = {
    "sqlite": Entrant("sqlite", can=frozenset({"checkpoint"})),
    "lmdb": Entrant("lmdb"),
    # A file of a block to a record, and its directory's own blocks: four gigabytes, and hours, for a million.
    "dirdbm": Entrant("dirdbm", durable=False, largest=100_000),
}


def entrant(name: str) -> Entrant:
    """:raises ValueError: there is none of that name. `kvtwist@32MiB` is kvtwist with that memory limit."""
    if _KVTWIST.fullmatch(name):
        return Entrant(name, can=frozenset({"checkpoint", "expire"}))
    if name not in _PEERS:
        raise ValueError(f"no such contender: {name} (there are kvtwist, kvtwist@32MiB, {', '.join(_PEERS)})")
    return _PEERS[name]


def contender(name: str, reactor: Any, directory: str) -> Contender:
    """The store of that name. Only what it needs itself is imported, so that it does not pay for the others."""
    found = _KVTWIST.fullmatch(name)
    if found:
        from bench.embedded import Kvtwist

        return Kvtwist(reactor, directory, int(found["mebibytes"]) * 2**20 if found["mebibytes"] else None)
    if name == "sqlite":
        from bench.sqlite_peer import SQLite

        return SQLite(reactor, directory)
    if name == "lmdb":
        from bench.lmdb_peer import LMDB

        return LMDB(reactor, directory)
    from bench.dirdbm_peer import PlainDirDBM

    return PlainDirDBM(reactor, directory)
