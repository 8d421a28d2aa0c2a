"""
Keep a program's settings up to date while it runs: read them once, and follow their changes from then on.

    ./run.sh  # in another terminal
    .venv/bin/python examples/config_watcher.py http://localhost:4000
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from kvtwist.client import Clear, Client, Delete, Expire, Listed, Put, Reset


async def operate(client: Client) -> None:
    """What somebody else does meanwhile: a new value, two at one instant, and one that is taken back."""
    await client.put("config/colour", "green")
    await client.txn().put("config/size", "10").put("config/unit", "mm").commit()
    await client.delete("config/colour")


async def main(url: str) -> None:
    async with Client(url) as client:
        await client.delete_prefix("config/")
        await client.put("config/colour", "red")

        settings: dict[str, str] = {}
        async with client.follow("config/") as changes:
            async for change in changes:
                match change:
                    case Put(record):
                        settings[record.key.removeprefix("config/")] = record.text
                    case Delete(key=key) | Expire(key=key):
                        settings.pop(key.removeprefix("config/"), None)
                    case Clear() | Reset():
                        settings.clear()
                    case Listed():
                        operating = Deferred.fromCoroutine(operate(client))
                if not isinstance(change, Reset):
                    print(type(change).__name__, settings)
                if settings == {"size": "10", "unit": "mm"}:
                    break
        await operating


def run(reactor: object, url: str = "http://localhost:4000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
