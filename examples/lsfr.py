"""
Write a hundred keys at once, read them back, and clear the store.

    ./run.sh           # in another terminal
    .venv/bin/python examples/lsfr.py http://localhost:4000
"""

import sys

import treq
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react


async def main(url: str) -> None:
    async def put(number: int) -> None:
        response = await treq.put(f"{url}/kv/sensor:{number}", data=f"{number * number} °C".encode())
        assert response.code == 200, await response.text()

    await gatherResults([Deferred.fromCoroutine(put(number)) for number in range(100)])
    print("wrote 100 keys")
    print("sensor:12 is", await (await treq.get(f"{url}/kv/sensor:12")).text())

    response = await treq.put(f"{url}/kv/not a key", data=b"x")
    print(response.code, (await response.text()).strip())

    await treq.delete(f"{url}/clear")
    response = await treq.get(f"{url}/kv/sensor:12")
    print(response.code, (await response.text()).strip())


def run(reactor: object, url: str = "http://localhost:4000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
