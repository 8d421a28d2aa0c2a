"""
Whatever clients do at the same time, each request happens at one instant between its start and its answer.

Clients over keep-alive connections ask at random for a few keys, and write down what they asked, what they heard, and
when; the checker then looks for an order that explains all of it. When the server is killed, what had no answer by then
has happened before its death or never will, and the history goes on with the next server on the same directory.

`lsfr` is checked as registers. `transactional` is checked as registers with a queue, `commit` being one operation on
every key: its spec says what each request does when nothing else goes on, and that is all the checker needs. The
answers 201 and 200 to `POST /set` are part of it. The queue is short; for long ones see the unit test of commit races.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import evolve, frozen

from tests.support.linearizability import REGISTERS, STAGING, Model, Name, Operation, Violation, check
from tests.support.server import PATIENCE, Server, running
from tests.support.wire import Address, head, sized

Outcome = tuple[str | None, bool | None]
"""The value that was read, if one was; and whether a `set` was told that its key would be new."""


@frozen
class Spoken:
    """
    What is asked of one profile.

    :ivar names: what clients ask for, and how often, more or less.
    :ivar request: the request for an operation on a key with a value.
    :ivar outcome: what its answer says.
    """

    profile: str
    model: Model
    names: Mapping[Name, int]
    request: Callable[[Name, str, str], bytes]
    outcome: Callable[[Name, str, int, bytes], Outcome]

    def without(self, *names: Name) -> Spoken:
        """The same, but nobody asks for these."""
        return evolve(self, names={name: weight for name, weight in self.names.items() if name not in names})


def _lsfr_request(name: Name, key: str, value: str) -> bytes:
    match name:
        case "put":
            return sized("PUT", f"/kv/{key}", value.encode())
        case "get":
            return head("GET", f"/kv/{key}")
        case "delete":
            return head("DELETE", f"/kv/{key}")
    return head("DELETE", "/clear")


def _lsfr_outcome(name: Name, key: str, status: int, body: bytes) -> Outcome:
    assert status == 200 or (name == "get" and status == 404), (name, key, status, body)
    return (body.decode() if name == "get" and status == 200 else None), None


def _transactional_request(name: Name, key: str, value: str) -> bytes:
    match name:
        case "set":
            return sized("POST", "/set", json.dumps({key: value}).encode())
        case "unset":
            return sized("DELETE", "/set", json.dumps(key).encode())
        case "get":
            return head("GET", f"/{key}")
    return head("POST", "/commit", "Content-Length: 0")


def _transactional_outcome(name: Name, key: str, status: int, body: bytes) -> Outcome:
    allowed: Mapping[Name, set[int]] = {"set": {200, 201}, "unset": {200}, "get": {200, 404}, "commit": {204}}
    assert status in allowed[name], (name, key, status, body)
    value = json.loads(body)[key] if name == "get" and status == 200 else None
    return value, status == 201 if name == "set" else None


LSFR: Final = Spoken(
    "lsfr",
    REGISTERS,
    {"get": 10, "put": 8, "delete": 2, "clear": 1},
    _lsfr_request,
    _lsfr_outcome,
)
TRANSACTIONAL: Final = Spoken(
    "transactional",
    STAGING,
    {"get": 8, "set": 6, "unset": 2, "commit": 4},
    _transactional_request,
    _transactional_outcome,
)
BOTH: Final = pytest.mark.parametrize("spoken", [LSFR, TRANSACTIONAL], ids=lambda spoken: str(spoken.profile))


# --- clients ----------------------------------------------------------------------------------------------------------

Ask = Callable[[bytes], Awaitable[tuple[int, bytes]]]


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Ask]:
    """A connection, as a function that sends a request and returns the status and the body of its answer."""
    reader, writer = await asyncio.open_connection(*address)

    async def ask(request: bytes) -> tuple[int, bytes]:
        writer.write(request)
        await writer.drain()
        top = await reader.readuntil(b"\r\n\r\n")
        status, length = int(top.split(maxsplit=2)[1]), re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", top)
        assert length is not None or status == 204, top
        return status, b"" if length is None else await reader.readexactly(int(length[1]))

    try:
        yield ask
    finally:
        writer.close()


class Crowd:
    """
    Clients, and the history they make together.

    :param keys: so many are asked for.
    :param padding: what is added to each value on its way, and not written down.
    """

    def __init__(self, spoken: Spoken, dice: random.Random, keys: int, padding: str = "") -> None:
        self.history: list[Operation] = []
        self._spoken = spoken
        self._dice = dice
        self._keys = [f"key{next(_numbers)}" for _ in range(keys)]
        self._padding = padding

    async def send(self, address: Address, clients: int, requests: int) -> None:
        """Let some clients each send so many requests, one after the other."""
        before = len(self.history)
        await _in_time(*(self._client(address, range(requests)) for _ in range(clients)))
        assert all(operation.end is not None for operation in self.history[before:]), "the server has hung up"

    async def send_until_killed(self, server: Server, clients: int, requests: int) -> None:
        """Let clients send requests until none is answered; the server is killed after so many answers."""
        answered = len(self.history) + requests
        enough = asyncio.Event()

        async def kill() -> int:
            await enough.wait()
            await asyncio.to_thread(server.kill)
            return time.monotonic_ns()

        def watched() -> Iterator[int]:
            for number in itertools.count():
                if len(self.history) >= answered:
                    enough.set()
                yield number

        died, *_ = await _in_time(kill(), *(self._client(server.address, watched()) for _ in range(clients)))
        self.history = [
            operation if operation.end is not None or operation.latest is not None else evolve(operation, latest=died)
            for operation in self.history
            if operation.end is not None or operation.start <= died  # else nobody was there any more
        ]

    async def read(self, address: Address) -> None:
        """Let one client read every key."""
        async with connected(address) as ask:
            client = next(_numbers)
            for key in self._keys:
                assert await self._request(ask, client, "get", key)

    def violation(self) -> Violation | None:
        """See `check`."""
        return check(self.history, self._spoken.model)

    def check(self) -> None:
        """:raises AssertionError: with the operations that no order explains."""
        violation = self.violation()
        assert violation is None, f"{violation}"

    async def _client(self, address: Address, requests: Iterable[int]) -> None:
        client, dice = next(_numbers), random.Random(self._dice.random())
        names, weights = list(self._spoken.names), list(self._spoken.names.values())
        async with connected(address) as ask:
            for _ in requests:
                [name] = dice.choices(names, weights)
                if not await self._request(ask, client, name, dice.choice(self._keys)):
                    return

    async def _request(self, ask: Ask, client: int, name: Name, key: str) -> bool:
        """Do it and write it down; False when there was no answer."""
        spoken = self._spoken
        value = str(next(_numbers)) if name in ("put", "set") else None
        request = spoken.request(name, key, f"{value}{self._padding}")
        operation = Operation(client, name, None if name in ("clear", "commit") else key, value, time.monotonic_ns())
        try:
            status, body = await ask(request)
        except (OSError, EOFError):
            self.history.append(operation)
            return False
        end = time.monotonic_ns()
        read, created = spoken.outcome(name, key, status, body)
        if read is not None:
            assert read.endswith(self._padding)
            value = read.removesuffix(self._padding)
        self.history.append(evolve(operation, value=value, end=end, created=created))
        return True


_numbers = itertools.count(1)
"""For clients, keys and values: no two are ever the same."""


async def _in_time(*jobs: Awaitable[Any]) -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*jobs), PATIENCE)


# --- the server -------------------------------------------------------------------------------------------------------


@BOTH
def test_concurrent_requests_happen_in_some_order(spoken: Spoken, dice: random.Random, tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", spoken.profile) as server:
        for clients, keys, requests in ((2, 1, 200), (4, 2, 150), (6, 3, 100), (8, 1, 50)):
            crowd = Crowd(spoken, dice, keys)
            asyncio.run(crowd.send(server.address, clients, requests))
            crowd.check()


@BOTH
@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.long)])
def test_a_history_goes_on_after_a_kill(spoken: Spoken, kills: int, dice: random.Random, tmp_path: Path) -> None:
    """The values are so large, and memory is so small, that every few writes begin a checkpoint."""
    options = ["--profile", spoken.profile, "--memory-limit=1MiB"]
    crowd = Crowd(spoken, dice, keys=3, padding="." * 80_000)
    checkpoints = 0
    for _ in range(kills):
        with running(tmp_path / "data", *options) as server:
            asyncio.run(crowd.send_until_killed(server, clients=6, requests=dice.randrange(100, 400)))
            checkpoints += server.output().count("checkpoint of revision")
    with running(tmp_path / "data", *options) as server:
        asyncio.run(crowd.read(server.address))
        asyncio.run(crowd.send(server.address, clients=6, requests=30))
    print(f"{len(crowd.history)} requests, {checkpoints} checkpoints")
    assert any(operation.end is None for operation in crowd.history)
    assert checkpoints
    crowd.check()


def test_a_checkpoint_changes_nothing(dice: random.Random, tmp_path: Path) -> None:
    """It begins when the journal has grown to 64 MiB, and clients go on; at the end of this it is about twice that."""
    crowd = Crowd(LSFR, dice, keys=3, padding="." * 512 * 1024)
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        asyncio.run(crowd.send(server.address, clients=6, requests=100))
        server.wait_for("checkpoint of revision [0-9]+ took")
        asyncio.run(crowd.read(server.address))
        crowd.check()


# --- servers that are wrong -------------------------------------------------------------------------------------------


@BOTH
def test_a_server_that_keeps_nothing_is_caught(spoken: Spoken, dice: random.Random, tmp_path: Path) -> None:
    options = ["--profile", spoken.profile, "--store", "memory"]
    crowd = Crowd(spoken.without("delete", "clear", "unset"), dice, keys=2)
    with running(tmp_path / "data", *options) as server:
        asyncio.run(crowd.send_until_killed(server, clients=4, requests=100))
    with running(tmp_path / "data", *options) as server:
        asyncio.run(crowd.read(server.address))
    assert crowd.violation() is not None


class Honest:
    """A server in this event loop that speaks `lsfr` and makes no mistake."""

    def __init__(self) -> None:
        self.data: dict[str, bytes | None] = {}
        self.writes = 0

    async def put(self, key: str, value: bytes) -> None:
        self.writes += 1
        self.data[key] = value

    async def get(self, key: str) -> bytes | None:
        return self.data.get(key)

    async def delete(self, key: str) -> None:
        self.data.pop(key, None)

    async def clear(self) -> None:
        self.data.clear()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(EOFError):
            while True:
                top = await reader.readuntil(b"\r\n\r\n")
                method, target, *_ = top.decode().split()
                length = re.search(rb"Content-Length: ([0-9]+)", top)
                value = await reader.readexactly(int(length[1])) if length else b""
                key = target.rpartition("/")[2]
                found: bytes | None = b""
                match method:
                    case "PUT":
                        await self.put(key, value)
                    case "GET":
                        found = await self.get(key)
                    case _:
                        await (self.clear() if target == "/clear" else self.delete(key))
                status, body = (404, b"") if found is None else (200, found)
                writer.write(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        writer.close()


class Forgetful(Honest):
    """Loses every tenth value that it has acknowledged."""

    async def put(self, key: str, value: bytes) -> None:
        self.writes += 1
        if self.writes % 10:
            self.data[key] = value


class Stale(Honest):
    """Reads from a copy that is made at every fifth write."""

    def __init__(self) -> None:
        super().__init__()
        self.copy: dict[str, bytes | None] = {}

    async def get(self, key: str) -> bytes | None:
        if self.writes % 5 == 0:
            self.copy = dict(self.data)
        return self.copy.get(key)


class Hesitant(Honest):
    """Shows a value, takes it back, and then it is there for good."""

    async def put(self, key: str, value: bytes) -> None:
        before = self.data.get(key)
        for shown in (value, before, value):
            self.data[key] = shown
            await turns_of_others()


class Piecemeal(Honest):
    """Clears one key after the other."""

    async def clear(self) -> None:
        for key in list(self.data):
            self.data.pop(key, None)
            await turns_of_others()


async def turns_of_others() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def ask_in_memory(server: Honest, crowd: Crowd) -> None:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    async with listening:
        await crowd.send(listening.sockets[0].getsockname(), clients=8, requests=50)


def test_an_honest_server_is_believed(dice: random.Random) -> None:
    for _ in range(5):
        crowd = Crowd(LSFR, dice, keys=3)
        asyncio.run(ask_in_memory(Honest(), crowd))
        crowd.check()


@pytest.mark.parametrize("server", [Forgetful, Stale, Hesitant, Piecemeal])
def test_a_wrong_server_is_caught(server: type[Honest], dice: random.Random) -> None:
    def is_caught() -> bool:
        crowd = Crowd(LSFR, dice, keys=3)
        asyncio.run(ask_in_memory(server(), crowd))
        return crowd.violation() is not None

    assert any(is_caught() for _ in range(50))
