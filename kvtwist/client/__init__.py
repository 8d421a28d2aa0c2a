"""
A client of the native profile, on treq.

    async def main(reactor):
        client = Client("http://localhost:4000")
        await client.put("greeting", "hello", ttl=60)
        async for change in client.watch("gree"):
            print(change)

`kvtwist.client.sync` has the same calls for scripts that block, `kvtwist.testing` a server for tests. docs/client.md
says what is repeated, when, and what a watch promises.
"""

from __future__ import annotations

from kvtwist.client._api import Status
from kvtwist.client._client import DEFAULT_URL, Client
from kvtwist.client._requests import Backoff
from kvtwist.client._watch import Watch
from kvtwist.client.changes import Change, Clear, Delete, Expire, Listed, Put, Reset, Told
from kvtwist.client.errors import (
    ClientError,
    Invalid,
    LockLost,
    NoSpace,
    PreconditionFailed,
    TooLarge,
    Unavailable,
    Uncertain,
    Unexpected,
)
from kvtwist.client.lock import Lease, Lock
from kvtwist.client.records import Json, Page, Record, Value
from kvtwist.client.txn import Outcome, Result, Txn

__all__ = [
    "DEFAULT_URL",
    "Backoff",
    "Change",
    "Clear",
    "Client",
    "ClientError",
    "Delete",
    "Expire",
    "Invalid",
    "Json",
    "Lease",
    "Listed",
    "Lock",
    "LockLost",
    "NoSpace",
    "Outcome",
    "Page",
    "PreconditionFailed",
    "Put",
    "Record",
    "Reset",
    "Result",
    "Status",
    "Told",
    "TooLarge",
    "Txn",
    "Unavailable",
    "Uncertain",
    "Unexpected",
    "Value",
    "Watch",
]
