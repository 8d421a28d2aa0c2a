"""
Take a seat by compare-and-set, move it in a transaction, and list what is there.

    ./run.sh --profile native --working-dir native-data  # in another terminal
    .venv/bin/python examples/native.py http://localhost:4000
"""

import sys

import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import react


async def main(url: str) -> None:
    async def take(seat: int, name: str) -> int:
        response = await treq.put(f"{url}/v1/kv/seat/{seat}", data=name.encode(), headers={"If-None-Match": "*"})
        return response.code

    print("Ada takes seat 1:", await take(1, "Ada"))
    print("Bob takes seat 1:", await take(1, "Bob"))

    move = {
        "if": [{"key": "seat/1", "exists": True}, {"key": "seat/2", "exists": False}],
        "then": [{"delete": {"key": "seat/1"}}, {"put": {"key": "seat/2", "value": "Ada"}}],
    }
    response = await treq.post(f"{url}/v1/txn", json=move)
    print("Ada moves:", (await response.json())["committed"])

    response = await treq.get(f"{url}/v1/kv", params={"prefix": "seat/"})
    print([(item["key"], item["value"]) for item in (await response.json())["items"]])

    response = await treq.delete(f"{url}/v1/kv", params={"prefix": "seat/"})
    print(await response.json())


def run(reactor: object, url: str = "http://localhost:4000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
