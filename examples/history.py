"""
Write a key a few times, delete it, and look at what happened to it.

    ./run.sh --profile history  # in another terminal
    .venv/bin/python examples/history.py http://localhost:3000
"""

import sys
from datetime import datetime

import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import react


async def main(url: str) -> None:
    for colour in (b"green", b"amber", b"red"):
        response = await treq.put(f"{url}/light", data=colour)
        assert response.code == 204, response.code
    print("now:", await (await treq.get(f"{url}/light")).content())
    await treq.delete(f"{url}/light")
    print("after DELETE:", (await treq.get(f"{url}/light")).code)

    events = await (await treq.get(f"{url}/light/history")).json()
    for event in events:  # newest first; a deletion has no value
        when = datetime.fromtimestamp(event["timestamp"] / 1000)
        print(f"{when:%H:%M:%S.%f} {event['value']}")


def run(reactor: object, url: str = "http://localhost:3000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
