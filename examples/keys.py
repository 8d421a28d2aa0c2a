"""
Set several keys at once, find some by a wildcard, page through all, and read a metric.

    ./run.sh --profile keys --working-dir keys-data  # in another terminal
    .venv/bin/python examples/keys.py http://localhost:8000
"""

import re
import sys
from urllib.parse import urljoin

import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import react


async def main(url: str) -> None:
    words = {"wod": 1, "word": {"letters": 4}, "world": "round", "woods": None, "sword": [1, 2]}
    response = await treq.put(f"{url}/keys", json=words)
    assert response.code in (200, 201), await response.text()

    print("wo$d:", await (await treq.get(f"{url}/keys", params={"filter": "wo$d"})).json())

    await treq.put(f"{url}/keys/session", json="token", params={"expire_in": 60})
    print("session:", (await treq.head(f"{url}/keys/session")).code, "for a minute from now")

    page: str | None = f"{url}/keys?limit=2"
    while page is not None:
        response = await treq.get(page)
        print("page:", list(await response.json()))
        link = response.headers.getRawHeaders("Link")
        page = urljoin(page, re.match("<(.*)>", link[0])[1]) if link else None

    metrics = await (await treq.get(f"{url}/metrics")).text()
    print(next(line for line in metrics.splitlines() if line.startswith("kvtwist_store_records")))

    await treq.delete(f"{url}/keys")
    print("after DELETE /keys:", await (await treq.get(f"{url}/keys")).json())


def run(reactor: object, url: str = "http://localhost:8000") -> Deferred[None]:
    return Deferred.fromCoroutine(main(url))


if __name__ == "__main__":
    react(run, sys.argv[1:])
