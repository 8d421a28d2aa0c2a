"""
Wait for a server to be ready, as a deployment does, and use it.

    ./run.sh --profile clstr --working-dir clstr-data  # in another terminal
    .venv/bin/python examples/clstr.py http://localhost:8080
"""

import sys

import treq
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react
from twisted.web.client import ResponseNeverReceived


async def ready(reactor: IReactorTime, url: str) -> None:
    for _ in range(100):
        try:
            if (await treq.get(f"{url}/health")).code == 200:
                return
        except (ConnectError, ResponseNeverReceived):
            pass
        await deferLater(reactor, 0.1)
    raise SystemExit(f"{url} is not ready after 10 seconds")


async def main(reactor: IReactorTime, url: str) -> None:
    await ready(reactor, url)
    print("ready")
    await treq.put(f"{url}/kv/kenya:capital", data=b"Nairobi")
    print("kenya:capital is", await (await treq.get(f"{url}/kv/kenya:capital")).text())
    await treq.delete(f"{url}/kv/kenya:capital")
    print("and after DELETE:", (await (await treq.get(f"{url}/kv/kenya:capital")).text()).strip())


def run(reactor: IReactorTime, url: str = "http://localhost:8080") -> Deferred[None]:
    return Deferred.fromCoroutine(main(reactor, url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
