"""A watch of the client over SIGKILL and restart of its server: nothing is lost, and nothing is told twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from kvtwist.client import Backoff, Clear, Client, Uncertain
from tests.support.mirror import following, records_of
from tests.support.server import PATIENCE, Server

KILLS = 6
KEYS = 40


class Writer:
    """Writes transactions of two to five keys, one after the other, whatever becomes of the server."""

    def __init__(self, client: Client, number: int) -> None:
        self._client = client
        self._chance = random.Random(number)
        self._number = number
        self.is_stopped = False
        self.acknowledged: list[tuple[int, set[str]]] = []
        """Revision and keys of each transaction that was answered."""

    async def run(self) -> None:
        count = 0
        while not self.is_stopped:
            count += 1
            keys = {f"{key:02}" for key in self._chance.sample(range(KEYS), self._chance.randrange(2, 6))}
            txn = self._client.txn()
            for key in sorted(keys):
                if self._chance.random() < 0.8:
                    txn.put(key, f"{self._number}/{count} " + "x" * self._chance.choice((1, 20_000)))
                else:
                    txn.delete(key)
            try:
                outcome = await txn.commit()
            except Uncertain:
                continue
            self.acknowledged.append((outcome.revision, keys))


@pytest.mark.parametrize("limit", ["256MiB", "1MiB"])
@ensureDeferred
async def test_a_watch_survives_its_server(tmp_path: Path, limit: str) -> None:
    """With little memory, checkpoints take changes that were not told yet, so there are listings."""
    options = ("--profile", "native", "--memory-limit", limit)
    server = await deferToThread(Server, tmp_path / "data", *options)
    port = server.address[1]
    backoff = Backoff(longest=0.2)
    client = Client(f"http://127.0.0.1:{port}", timeout=PATIENCE, tries=10_000, backoff=backoff)
    watch = client.follow()
    mirror, done = following(watch, "last")
    writers = [Writer(client, number) for number in range(3)]
    running = [Deferred.fromCoroutine(writer.run()) for writer in writers]
    try:
        for _ in range(KILLS):
            enough = [len(writer.acknowledged) + 20 for writer in writers]
            while any(len(writer.acknowledged) < count for writer, count in zip(writers, enough, strict=True)):
                await client.status()
            await deferToThread(server.kill)
            server = await deferToThread(Server, tmp_path / "data", *options, "--port", str(port))
        for writer in writers:
            writer.is_stopped = True
        await gatherResults(running)
        await client.put("last", "", retry=True)
        await done
        assert mirror.records == await records_of(client)
        told: dict[int, set[str]] = {}
        for change in mirror.told:
            assert not isinstance(change, Clear)
            told.setdefault(change.revision, set()).add(change.key)
        for writer in writers:
            for revision, keys in writer.acknowledged:
                assert revision <= mirror.listed or told.get(revision) == keys, revision
        assert mirror.resets == 1 or limit == "1MiB", "the journal has all changes"
    finally:
        watch.close()
        await client.close()
        server.kill()
