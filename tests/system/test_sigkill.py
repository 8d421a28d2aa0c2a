"""
A server that is killed under many writers keeps every write that it acknowledged, and of every other one all or nothing.

Each round goes on with the directory that the one before left. When the kill comes is chosen by chance, as a number of
acknowledged writes. The server has so little memory that it writes checkpoints and merges runs all the time, and waits
for its disk in every other round only: what the kernel has is not lost with a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.support.directory import runs
from tests.support.server import Server, running
from tests.support.wire import Connection, ask
from tests.system.swarm import Client, Count, Gone, clients

WRITERS = 32
LIMIT = "--memory-limit=1MiB"

Possible = dict[str, set[Any]]
"""What may be under each key; None for nothing."""


class Housework:
    """Whether a server has had to do more than write its journal."""

    def __init__(self, directory: Path) -> None:
        self.checkpoints = 0
        self.merged = 0
        self._directory = directory
        self._runs = 0

    def note(self, server: Server) -> None:
        """Look at what a server that is dead by now has done."""
        checkpoints = server.output().count("checkpoint of revision")
        before, self._runs = self._runs, runs(self._directory)
        self.checkpoints += checkpoints
        self.merged += max(before + checkpoints - self._runs, 0)

    def check(self) -> None:
        """:raises AssertionError: there were no checkpoints, or no merges."""
        print(f"{self.checkpoints} checkpoints, {self.merged} runs merged away")
        assert self.checkpoints and self.merged


def durability(number: int) -> str:
    """What the server waits for in a round."""
    return "--durability=sync" if number % 2 else "--durability=os"


def stored(server: Server) -> dict[str, Any]:
    """Everything that a server holds."""
    answer = ask(server.address, "GET", "/keys")
    assert answer.status == 200
    found = answer.json()
    assert isinstance(found, dict)
    return found


def check(found: dict[str, Any], possible: Possible) -> None:
    """Compare what a server holds with what it may; from here on that is what is there."""
    assert not found.keys() - possible.keys(), "nobody has ever written these"
    for key, values in possible.items():
        assert found.get(key) in values, (key, found.get(key), values)
        possible[key] = {found.get(key)}


async def kill_under_load(
    server: Server, limit: int, writers: list[Callable[[Client, Count], Coroutine[Any, Any, None]]]
) -> None:
    """Let writers write until the server is gone, which it is after so many acknowledged writes."""
    acknowledged = Count()
    async with clients(server.address, len(writers)) as opened:
        tasks = [asyncio.create_task(write(c, acknowledged)) for write, c in zip(writers, opened, strict=True)]
        await acknowledged.reaches(limit)
        server.kill()
        await asyncio.gather(*tasks)


# --- lsfr -------------------------------------------------------------------------------------------------------------


class Writer:
    """Writes keys of its own, some again and again, and knows what may be in each of them."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.possible: Possible = {}
        self._name = name
        self._chance = chance

    async def run(self, client: Client, acknowledged: Count) -> None:
        """Write until the server is gone."""
        for number in range(10**9):
            key = f"{self._name}-{self._chance.randrange(200)}"
            before = self.possible.get(key, {None})
            value = None
            if self._chance.random() < 0.8:
                value = f"{key} {number} " + "x" * self._chance.choice([0, 100, 3000])
            self.possible[key] = {*before, value}
            try:
                if value is None:
                    status, _ = await client.ask("DELETE", f"/kv/{key}")
                else:
                    status, _ = await client.ask("PUT", f"/kv/{key}", value.encode())
            except Gone:
                return
            assert status == 200, status
            self.possible[key] = {value}
            acknowledged.up()


def test_every_acknowledged_write_is_there_and_every_other_one_is_whole_or_absent(
    rounds: int, dice: random.Random, tmp_path: Path
) -> None:
    options = ["--profile", "lsfr", "--profile", "keys", LIMIT]
    writers = [Writer(f"w{number}", random.Random(dice.random())) for number in range(WRITERS)]
    housework = Housework(tmp_path / "data")

    def check_all(server: Server) -> None:
        possible: Possible = {}
        for writer in writers:
            possible.update(writer.possible)
        check(stored(server), possible)
        for writer in writers:
            writer.possible = {key: possible[key] for key in writer.possible}

    for number in range(rounds):
        limit = dice.randrange(1, 3000)
        print(f"round {number}: SIGKILL after {limit} acknowledged writes")
        with running(tmp_path / "data", *options, durability(number)) as server:
            check_all(server)
            asyncio.run(kill_under_load(server, limit, [writer.run for writer in writers]))
            housework.note(server)
    with running(tmp_path / "data", *options) as server:
        check_all(server)
    housework.check()


# --- native -----------------------------------------------------------------------------------------------------------


class Transactor:
    """Writes a few keys of its own, all in one transaction, if the first is still the one that it wrote last."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.keys = [f"{name}-{number}" for number in range(4)]
        self.possible: set[str | None] = {None}
        """What may be in every one of them."""
        self._name = name
        self._chance = chance

    async def run(self, client: Client, acknowledged: Count) -> None:
        """Write until the server is gone."""
        with contextlib.suppress(Gone):
            [found] = (await self._transact(client, then=[{"get": {"key": self.keys[0]}}]))["results"]
            revision = 0 if found is None else found["revision"]
            for number in range(10**9):
                value = None
                if self._chance.random() < 0.8:
                    value = f"{self._name} {number} " + "x" * self._chance.choice([0, 1000, 10_000])
                self.possible.add(value)
                writes = [
                    {"delete": {"key": key}} if value is None else {"put": {"key": key, "value": value}}
                    for key in self.keys
                ]
                condition = {"key": self.keys[0], "revision": revision}
                outcome = await self._transact(client, if_=[condition], then=writes)
                assert outcome["committed"]
                revision = 0 if value is None else outcome["revision"]
                self.possible = {value}
                acknowledged.up()

    async def _transact(self, client: Client, **parts: Any) -> Any:
        body = json.dumps({name.removesuffix("_"): part for name, part in parts.items()}).encode()
        status, answer = await client.ask("POST", "/v1/txn", body)
        assert status == 200
        return json.loads(answer)

    def check(self, found: dict[str, Any]) -> None:
        """Compare with what a server holds."""
        values = {found.get(key) for key in self.keys}
        assert len(values) == 1 and values <= self.possible, (values, self.possible)
        self.possible = values


def test_a_transaction_is_there_as_a_whole_or_not_at_all(rounds: int, dice: random.Random, tmp_path: Path) -> None:
    options = ["--profile", "keys", "--profile", "native", LIMIT]
    writers = [Transactor(f"t{number}", random.Random(dice.random())) for number in range(WRITERS)]
    housework = Housework(tmp_path / "data")
    for number in range(rounds):
        limit = dice.randrange(1, 1500)
        print(f"round {number}: SIGKILL after {limit} acknowledged transactions")
        with running(tmp_path / "data", *options, durability(number)) as server:
            found = stored(server)
            for writer in writers:
                writer.check(found)
            asyncio.run(kill_under_load(server, limit, [writer.run for writer in writers]))
            housework.note(server)
    with running(tmp_path / "data", *options) as server:
        found = stored(server)
        for writer in writers:
            writer.check(found)
    housework.check()


# --- history ----------------------------------------------------------------------------------------------------------


class Chronicler:
    """Writes a few keys of its own, and knows what was written to each, in order. Uses no key in two rounds."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.written: dict[str, list[str | None]] = {}
        self.unanswered: str | None = None
        """The key whose last write may have happened, or not."""
        self._name = name
        self._chance = chance

    async def run(self, client: Client, acknowledged: Count) -> None:
        """Write until the server is gone."""
        for number in range(10**9):
            key = f"{self._name}k{self._chance.randrange(3)}"
            written = self.written.setdefault(key, [])
            value = None
            if not written or written[-1] is None or self._chance.random() < 0.8:
                value = f"{number} " + "x" * self._chance.choice([0, 100, 900])
            written.append(value)
            self.unanswered = key
            try:
                if value is None:
                    status, _ = await client.ask("DELETE", f"/{key}")
                else:
                    status, _ = await client.ask("PUT", f"/{key}", value.encode())
            except Gone:
                return
            assert status == 204, status
            self.unanswered = None
            acknowledged.up()

    def check(self, found: dict[str, Any], connection: Connection) -> None:
        """Compare with what a server holds: values and events, which come together or not at all."""
        for key, written in self.written.items():
            events = connection.ask("GET", f"/{key}/history").json()
            told = [event["value"] for event in reversed(events)]
            assert told in ([written] if key != self.unanswered else [written, written[:-1]]), key
            assert found.get(key) == (told[-1] if told else None), key
            times = [event["timestamp"] for event in events]
            assert times == sorted(times, reverse=True)


def test_a_value_and_its_event_come_together(rounds: int, dice: random.Random, tmp_path: Path) -> None:
    options = ["--profile", "keys", "--profile", "history", LIMIT]
    housework = Housework(tmp_path / "data")
    for number in range(rounds):
        limit = dice.randrange(1, 1500)
        print(f"round {number}: SIGKILL after {limit} acknowledged writes")
        writers = [Chronicler(f"r{number}w{name}", random.Random(dice.random())) for name in range(16)]
        with running(tmp_path / "data", *options, durability(number)) as server:
            asyncio.run(kill_under_load(server, limit, [writer.run for writer in writers]))
            housework.note(server)
        with running(tmp_path / "data", *options) as server, Connection(server.address) as connection:
            found = stored(server)
            for writer in writers:
                writer.check(found, connection)
            server.kill()
            housework.note(server)
    housework.check()


# --- transactional ----------------------------------------------------------------------------------------------------


class Stager:
    """Stages changes of keys of its own, and knows what may be in each of them after the next commit."""

    def __init__(self, name: str, possible: Possible) -> None:
        self._name = name
        self._possible = possible

    async def run(self, client: Client, staged: Count, value: int) -> None:
        """Stage until the server is gone."""
        for number in range(10**9):
            key = f"{self._name}-{number % 50}"
            document = [value, number, "x" * 500]
            before = self._possible.get(key, {None})
            self._possible[key] = {*before, as_json(document)}
            try:
                status, _ = await client.ask("POST", "/set", json.dumps({key: document}).encode())
            except Gone:
                return
            assert status in (200, 201)
            self._possible[key] = {as_json(document)}
            staged.up()


def as_json(value: object) -> str | None:
    """Something that can be in a set."""
    return None if value is None else json.dumps(value)


def test_a_commit_is_there_as_a_whole_or_not_at_all(rounds: int, dice: random.Random, tmp_path: Path) -> None:
    """What was staged and acknowledged is committed by the next commit, if not by the one that was killed."""
    options = ["--profile", "keys", "--profile", "transactional", LIMIT]
    group = [f"g{number}" for number in range(10)]
    housework = Housework(tmp_path / "data")
    possible: Possible = {}

    async def commit_and_kill(server: Server, value: int) -> bool:
        """Returns whether the commit was acknowledged."""
        others = Count()
        async with clients(server.address, 20) as opened:
            for key in group:
                await opened[0].ask("POST", "/set", b'{"%b":%d}' % (key.encode(), value))
            tasks = [
                asyncio.create_task(Stager(f"other{number}", possible).run(client, others, value))
                for number, client in enumerate(opened[1:])
            ]
            await others.reaches(dice.randrange(1, 1000))
            commit = asyncio.create_task(opened[0].ask("POST", "/commit"))
            await others.reaches(others.value + dice.choice([0, 20, 100, 300]))
            server.kill()
            await asyncio.gather(*tasks)
            try:
                status, _ = await commit
            except Gone:
                return False
            assert status == 204
            return True

    acknowledged = 0
    for number in range(rounds):
        value = number + 1
        with running(tmp_path / "data", *options, durability(number)) as server:
            done = asyncio.run(commit_and_kill(server, value))
            acknowledged += done
            housework.note(server)
        with running(tmp_path / "data", *options) as server:
            found = stored(server)
            values = {found.get(key) for key in group}
            print(f"round {number}: the commit was {'' if done else 'not '}acknowledged, {values} is there")
            assert values in ([{value}] if done else [{value}, {value - 1 or None}])
            assert ask(server.address, "POST", "/commit").status == 204
            found = stored(server)
            assert {found.pop(key) for key in group} == {value}
            check({key: as_json(document) for key, document in found.items()}, possible)
            server.kill()
            housework.note(server)
    print(f"{acknowledged} of {rounds} commits were acknowledged")
    housework.check()


def test_commits_and_sets_that_race_lose_nothing_and_show_nothing_too_early(tmp_path: Path) -> None:
    """
    Stagers count their own key up, committers commit, readers read. A key never goes back, never shows what was not
    committed, and a commit brings at least everything that was acknowledged before it was asked for.
    """
    stagers, committers, readers, rounds = 12, 4, 6, 40

    async def race(server: Server) -> None:
        staged = [0] * stagers
        sent = [0] * stagers
        commits_sent = 0
        busy = stagers

        async def stage(client: Client, number: int) -> None:
            nonlocal busy
            for value in range(1, rounds + 1):
                sent[number] = value
                status, _ = await client.ask("POST", "/set", b'{"k%d":%d}' % (number, value))
                assert status in (200, 201)
                staged[number] = value
            busy -= 1

        async def value_of(client: Client, number: int) -> int:
            status, body = await client.ask("GET", f"/k{number}")
            assert status in (200, 404)
            return int(json.loads(body)[f"k{number}"]) if status == 200 else 0

        async def commit(client: Client) -> None:
            nonlocal commits_sent
            while busy:
                least = list(staged)
                commits_sent += 1
                assert (await client.ask("POST", "/commit"))[0] == 204
                for number, value in enumerate(least):
                    assert await value_of(client, number) >= value

        async def read(client: Client, chance: random.Random) -> None:
            seen = [0] * stagers
            while busy:
                number = chance.randrange(stagers)
                value = await value_of(client, number)
                assert seen[number] <= value <= sent[number]
                seen[number] = value

        async with clients(server.address, stagers + committers + readers) as opened:
            await asyncio.gather(
                *(stage(opened.pop(), number) for number in range(stagers)),
                *(commit(opened.pop()) for _ in range(committers)),
                *(read(opened.pop(), random.Random(number)) for number in range(readers)),
            )
        print(f"{stagers * rounds} changes staged, {commits_sent} commits")
        async with clients(server.address, 1) as [client]:
            assert (await client.ask("POST", "/commit"))[0] == 204
            for number in range(stagers):
                assert await value_of(client, number) == rounds

    with running(tmp_path / "data", "--profile", "transactional") as server:
        asyncio.run(race(server))


def test_a_commit_ends_while_many_stage_the_same_key(tmp_path: Path) -> None:
    async def hammer(server: Server) -> int:
        done = False
        staged = Count()

        async def stage(client: Client) -> None:
            while not done:
                await client.ask("POST", "/set", b'{"k":%d}' % staged.value)
                staged.up()

        async with clients(server.address, 17) as opened:
            tasks = [asyncio.create_task(stage(client)) for client in opened[1:]]
            await staged.reaches(50)
            before = staged.value
            try:
                assert (await opened[0].ask("POST", "/commit"))[0] == 204
            finally:
                done = True
                await asyncio.gather(*tasks)
            return staged.value - before

    with running(tmp_path / "data", "--profile", "transactional") as server:
        print(f"one commit while {asyncio.run(hammer(server))} changes were staged")
