"""
Move money between two accounts: both change, or neither.

    ./run.sh           # in another terminal
    .venv/bin/python examples/transactional.py http://localhost:4000
"""

import sys

import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import react


async def main(url: str) -> None:
    async def stage(key: str, value: object) -> None:
        response = await treq.post(f"{url}/set", json={key: value})
        news = {201: "a new key", 200: "a new value"}[response.code]
        print(f"staged {key} = {value}: {news}")
        await response.content()

    async def show(key: str) -> None:
        response = await treq.get(f"{url}/{key}")
        print(f"{key}: {await response.json()}")

    async def commit() -> None:
        response = await treq.post(f"{url}/commit")
        assert response.code == 204, response.code
        print("committed")

    await stage("alice", 100)
    await stage("bob", 20)
    await commit()

    await stage("alice", 70)
    await stage("bob", 50)
    await show("alice")  # still 100: the changes are not committed yet
    await commit()
    await show("alice")
    await show("bob")

    await (await treq.request("DELETE", f"{url}/set", json="bob")).content()
    await commit()
    await show("bob")  # not found


def run(reactor: object, url: str = "http://localhost:4000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
