"""
Let one of several processes lead, and another one as soon as it has left. (Here all are in one process.)

    ./run.sh  # in another terminal
    .venv/bin/python examples/leader_election.py http://localhost:4000
"""

import sys

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from kvtwist.client import Client


async def candidate(name: str, url: str, tokens: list[int]) -> None:
    async with Client(url) as client, client.lock("leader", ttl=10, owner=name) as lease:
        record = await client.get("leader")
        assert record is not None
        print("one leads:", record.json()["owner"] == name)
        lease.check()  # before each step that only a leader may take
        tokens.append(lease.token)  # what is written elsewhere carries it, so that a former leader is refused


async def main(url: str) -> None:
    tokens: list[int] = []
    names = ["ada", "bob", "eve"]
    await gatherResults([Deferred.fromCoroutine(candidate(name, url, tokens)) for name in names])
    print("each token is larger than the one before:", tokens == sorted(set(tokens)))


def run(reactor: object, url: str = "http://localhost:4000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
