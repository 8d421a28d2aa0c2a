"""
A server that is killed under many writers keeps every write that it acknowledged, and of every other one all or nothing.

Each round goes on with the directory that the one before left. The moment of the kill is chosen by chance, as a number of
acknowledged writes; the seed of each round is printed.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

from tests.support.server import Server, running
from tests.support.wire import ask
from tests.system.swarm import Client, Count, Gone, clients

ROUNDS = 10
WRITERS = 32


class Writer:
    """Writes keys of its own, some again and again, and knows what may be in each of them."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.possible: dict[str, set[str | None]] = {}
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

    def check(self, found: dict[str, str]) -> None:
        """Compare with what a server holds; from here on that is what is there."""
        for key, possible in self.possible.items():
            assert found.get(key) in possible, (key, found.get(key), possible)
            self.possible[key] = {found.get(key)}


def stored(server: Server) -> dict[str, Any]:
    """Everything that a server holds."""
    answer = ask(server.address, "GET", "/keys")
    assert answer.status == 200
    found = answer.json()
    assert isinstance(found, dict)
    return found


def test_every_acknowledged_write_is_there_and_every_other_one_is_whole_or_absent(tmp_path: Path) -> None:
    options = ["--profile", "lsfr", "--profile", "keys"]
    writers = [Writer(f"w{number}", random.Random(number)) for number in range(WRITERS)]

    async def write_until_killed(server: Server, limit: int) -> None:
        acknowledged = Count()
        async with clients(server.address, WRITERS) as opened:
            tasks = [asyncio.create_task(w.run(c, acknowledged)) for w, c in zip(writers, opened, strict=True)]
            await acknowledged.reaches(limit)
            server.kill()
            await asyncio.gather(*tasks)

    for seed in range(ROUNDS):
        limit = random.Random(seed).randrange(1, 3000)
        print(f"round {seed}: SIGKILL after {limit} acknowledged writes")
        with running(tmp_path / "data", *options) as server:
            found = stored(server)
            for writer in writers:
                writer.check(found)
            asyncio.run(write_until_killed(server, limit))
    with running(tmp_path / "data", *options) as server:
        found = stored(server)
        for writer in writers:
            writer.check(found)


def test_a_commit_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was staged and acknowledged is committed by the next commit, if not by the one that was killed."""
    options = ["--profile", "keys", "--profile", "transactional"]
    group = [f"g{number}" for number in range(10)]

    async def commit_and_kill(server: Server, value: int, chance: random.Random) -> bool:
        """Returns whether the commit was acknowledged."""
        others = Count()

        async def stage_others(client: Client, name: int) -> None:
            for number in range(10**9):
                try:
                    await client.ask("POST", "/set", b'{"other%d-%d":%d}' % (name, number % 50, value))
                except Gone:
                    return
                others.up()

        async with clients(server.address, 20) as opened:
            for key in group:
                await opened[0].ask("POST", "/set", b'{"%b":%d}' % (key.encode(), value))
            tasks = [asyncio.create_task(stage_others(client, n)) for n, client in enumerate(opened[1:])]
            await others.reaches(chance.randrange(1, 200))
            commit = asyncio.create_task(opened[0].ask("POST", "/commit"))
            await others.reaches(others.value + chance.randrange(0, 40))
            server.kill()
            await asyncio.gather(*tasks)
            try:
                status, _ = await commit
            except Gone:
                return False
            assert status == 204
            return True

    acknowledged = 0
    for seed in range(ROUNDS):
        value = seed + 1
        with running(tmp_path / "data", *options) as server:
            done = asyncio.run(commit_and_kill(server, value, random.Random(seed)))
            acknowledged += done
        with running(tmp_path / "data", *options) as server:
            found = stored(server)
            values = {found.get(key) for key in group}
            print(f"round {seed}: the commit was {'' if done else 'not '}acknowledged, {values} is there")
            assert values in ([{value}] if done else [{value}, {value - 1 or None}])
            assert ask(server.address, "POST", "/commit").status == 204
            found = stored(server)
            assert {found.get(key) for key in group} == {value}
    print(f"{acknowledged} of {ROUNDS} commits were acknowledged")


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
