"""
Whatever clients do at the same time, each request happens at one instant between its start and its answer.

Clients over keep-alive connections ask at random for a few keys, and write down what they asked, what they heard, and
when; the checker then looks for an order that explains all of it. When the server is killed, what had no answer by then
has happened before its death or never will, and the history goes on with the next server on the same directory.

`lsfr` is checked as registers. `native` is, too, with transactions that compare and set one or two of them: by
`If-Match` and `If-None-Match`, and by `POST /v1/txn`. `transactional` is checked as registers with a queue, `commit`
being one operation on every key: its spec says what each request does when nothing else goes on, and that is all the
checker needs. The answers 201 and 200 to `POST /set` are part of it. The queue is short; for long ones see the unit
test of commit races.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from attrs import evolve, frozen

from tests.support.linearizability import REGISTERS, STAGING, Model, Name, Operation, Part, Violation, check
from tests.support.server import PATIENCE, Server, running
from tests.support.wire import Address, head, sized


@frozen
class Heard:
    """An answer; :ivar tag: the entity tag in it."""

    status: int
    tag: str | None
    body: bytes


class Speaker(Protocol):
    """One client of one profile."""

    def say(self, name: Name, key: str, value: str) -> tuple[bytes, Operation]:
        """The request for an operation on a key with a value, and the operation, which has not started yet."""

    def hear(self, operation: Operation, heard: Heard) -> Operation:
        """The operation with what the answer says."""


@frozen
class Spoken:
    """
    What is asked of one profile.

    :ivar names: what clients ask for, and how often, more or less.
    :ivar speaker: makes a client of its number, the keys, its dice, and the padding of values.
    """

    profile: str
    model: Model
    names: Mapping[Name, int]
    speaker: Callable[[int, Sequence[str], random.Random, str], Speaker]

    def without(self, *names: Name) -> Spoken:
        """The same, but nobody asks for these."""
        return evolve(self, names={name: weight for name, weight in self.names.items() if name not in names})


@frozen
class Lsfr:
    """A client of `lsfr`."""

    client: int
    keys: Sequence[str]
    dice: random.Random
    padding: str

    def say(self, name: Name, key: str, value: str) -> tuple[bytes, Operation]:
        match name:
            case "put":
                return sized("PUT", f"/kv/{key}", (value + self.padding).encode()), self._asked(name, key, value)
            case "get" | "delete":
                return head(name.upper(), f"/kv/{key}"), self._asked(name, key)
        return head("DELETE", "/clear"), self._asked(name)

    def _asked(self, name: Name, key: str | None = None, value: str | None = None) -> Operation:
        return Operation(self.client, name, key, value, 0)

    def hear(self, operation: Operation, heard: Heard) -> Operation:
        if operation.name != "get":
            assert heard.status == 200, (operation, heard)
            return operation
        assert heard.status in (200, 404), (operation, heard)
        return evolve(operation, value=unpadded(heard.body.decode(), self.padding) if heard.status == 200 else None)


class Transactional(Lsfr):
    """A client of `transactional`."""

    def say(self, name: Name, key: str, value: str) -> tuple[bytes, Operation]:
        match name:
            case "set":
                body = json.dumps({key: value + self.padding}).encode()
                return sized("POST", "/set", body), self._asked(name, key, value)
            case "unset":
                return sized("DELETE", "/set", json.dumps(key).encode()), self._asked(name, key)
            case "get":
                return head("GET", f"/{key}"), self._asked(name, key)
        return head("POST", "/commit", "Content-Length: 0"), self._asked(name)

    def hear(self, operation: Operation, heard: Heard) -> Operation:
        allowed: Mapping[Name, set[int]] = {"set": {200, 201}, "unset": {200}, "get": {200, 404}, "commit": {204}}
        assert heard.status in allowed[operation.name], (operation, heard)
        if operation.name == "get" and heard.status == 200:
            assert operation.key is not None
            return evolve(operation, value=unpadded(json.loads(heard.body)[operation.key], self.padding))
        return evolve(operation, created=heard.status == 201) if operation.name == "set" else operation


class Lie(AssertionError):
    """An answer contradicts itself: there is no need to look at the history."""


Known = tuple[int, str | None]
"""A revision, which is 0 where there is nothing, and the value that has it."""


class Native:
    """
    A client of `native`. Its writes depend on what it has seen last: one key by `If-Match` or `If-None-Match`, several
    by a transaction. Each answer says what the server has seen, which the checker compares.
    """

    def __init__(self, client: int, keys: Sequence[str], dice: random.Random, padding: str) -> None:
        self._client = client
        self._keys = keys
        self._dice = dice
        self._padding = padding
        self._known: dict[str, Known] = {}

    def say(self, name: Name, key: str, value: str) -> tuple[bytes, Operation]:
        keys = [key]
        if name in ("txn", "unset") and self._dice.random() < 0.7:
            keys = [
                key,
                *self._dice.sample([other for other in self._keys if other != key], min(len(self._keys) - 1, 1)),
            ]
        if name in ("get", "clear") or not all(known in self._known for known in keys):
            return self._read(name, key)
        if name == "unset" or (name == "txn" and (len(keys) > 1 or self._dice.random() < 0.3)):
            return self._transact(keys, value, key if name == "unset" else None)
        method = "DELETE" if name == "delete" else "PUT"
        condition = None if name == "put" else self._known[key]
        if method == "DELETE" and condition is not None and condition[0] == 0:
            condition = None  # there is no header for it, and the answer will be 404
        written = None if method == "DELETE" else value
        test = (None, None) if condition is None else ("is", condition[1])
        part = Part(key, *test, True, written)  # type: ignore[arg-type]
        headers = []
        if condition is not None:
            headers.append("If-None-Match: *" if condition[0] == 0 else f'If-Match: "{condition[0]}"')
        target = f"/v1/kv/{key}"
        if method == "PUT":
            return sized("PUT", target, (value + self._padding).encode(), *headers), self._asked(part)
        return head("DELETE", target, *headers), self._asked(part)

    def _read(self, name: Name, key: str) -> tuple[bytes, Operation]:
        return head("GET", f"/v1/kv/{key}"), Operation(self._client, "get", key, None, 0)

    def _asked(self, *parts: Part) -> Operation:
        return Operation(self._client, "txn", None, None, 0, parts=parts)

    def _transact(self, keys: Sequence[str], value: str, deleted: str | None) -> tuple[bytes, Operation]:
        conditions, writes, parts = [], [], []
        for key in keys:
            revision, seen = self._known[key]
            conditions.append({"key": key, "revision": revision})
            written = None if key == deleted else f"{value}{key}"
            padded = f"{written}{self._padding}"
            writes.append({"delete": {"key": key}} if written is None else {"put": {"key": key, "value": padded}})
            parts.append(Part(key, "is", seen, True, written))
        reads = [{"get": {"key": key}} for key in keys]
        body = json.dumps({"if": conditions, "then": reads + writes, "else": reads}).encode()
        return sized("POST", "/v1/txn", body), self._asked(*parts)

    def hear(self, operation: Operation, heard: Heard) -> Operation:
        if operation.name == "get":
            assert operation.key is not None
            assert heard.status in (200, 404), (operation, heard)
            value = unpadded(heard.body.decode(), self._padding) if heard.status == 200 else None
            self._known[operation.key] = revision_of(heard), value
            return evolve(operation, value=value)
        if heard.body.startswith(b'{"committed"'):
            return self._hear_transaction(operation, json.loads(heard.body))
        [part] = operation.parts
        self._known.pop(part.key, None)
        match heard.status:
            case 412:
                return evolve(operation, parts=(Part(part.key, "is not", part.seen),))
            case 404:
                assert part.value is None, (operation, heard)
                self._known[part.key] = 0, None
                return evolve(operation, parts=(Part(part.key, "is", None),))
        assert heard.status in (201, 204), (operation, heard)
        self._known[part.key] = revision_of(heard), part.value
        if part.test is not None:
            if (heard.status == 201) is not (part.seen is None):
                raise Lie(f"{operation}, and the answer is {heard.status}")
            return operation
        was_there = heard.status == 204
        return evolve(operation, parts=(evolve(part, test="is not" if was_there else "is", seen=None),))

    def _hear_transaction(self, operation: Operation, outcome: Any) -> Operation:
        seen: dict[str, Known] = {}
        for part, result in zip(operation.parts, outcome["results"], strict=False):
            value = None if result is None else unpadded(result["value"], self._padding)
            seen[part.key] = (0 if result is None else result["revision"]), value
        if outcome["committed"]:
            for part in operation.parts:
                self._known[part.key] = (0 if part.value is None else outcome["revision"]), part.value
            return evolve(operation, parts=tuple(evolve(part, seen=seen[part.key][1]) for part in operation.parts))
        if all(seen[part.key][1] == part.seen for part in operation.parts):
            raise Lie(f"{operation}, and its conditions are said not to hold")
        self._known.update(seen)
        return evolve(operation, parts=tuple(Part(key, "is", value) for key, (_, value) in seen.items()))


def revision_of(heard: Heard) -> int:
    """The revision of the record in an answer; 0 if there is none."""
    return 0 if heard.tag is None else int(heard.tag.strip('"'))


def unpadded(value: str, padding: str) -> str:
    """A value as it is written down."""
    assert value.endswith(padding)
    return value.removesuffix(padding)


LSFR: Final = Spoken("lsfr", REGISTERS, {"get": 10, "put": 8, "delete": 2, "clear": 1}, Lsfr)
TRANSACTIONAL: Final = Spoken("transactional", STAGING, {"get": 8, "set": 6, "unset": 2, "commit": 4}, Transactional)
NATIVE: Final = Spoken("native", REGISTERS, {"get": 8, "put": 2, "delete": 2, "txn": 8, "unset": 2}, Native)
EACH: Final = pytest.mark.parametrize("spoken", [LSFR, TRANSACTIONAL, NATIVE], ids=lambda spoken: str(spoken.profile))


# --- clients ----------------------------------------------------------------------------------------------------------

Ask = Callable[[bytes], Awaitable[Heard]]


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Ask]:
    """A connection, as a function that sends a request and returns its answer."""
    reader, writer = await asyncio.open_connection(*address)

    async def ask(request: bytes) -> Heard:
        writer.write(request)
        await writer.drain()
        top = await reader.readuntil(b"\r\n\r\n")
        status, length = int(top.split(maxsplit=2)[1]), re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", top)
        assert length is not None or status == 204 or b"Transfer-Encoding: chunked" in top, top
        tag = re.search(r'\r\nETag: ("[0-9]+")\r\n', top.decode())
        if length is not None:
            body = await reader.readexactly(int(length[1]))
        else:
            body = b"" if status == 204 else await _chunks(reader)
        return Heard(status, tag and tag[1], body)

    try:
        yield ask
    finally:
        writer.close()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:size]
    await reader.readexactly(2)
    return body


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
            speaker = self._speaker()
            for key in self._keys:
                assert await self._request(ask, speaker, "get", key)

    def _speaker(self) -> Speaker:
        return self._spoken.speaker(next(_numbers), self._keys, random.Random(self._dice.random()), self._padding)

    def violation(self) -> Violation | None:
        """See `check`."""
        return check(self.history, self._spoken.model)

    def check(self) -> None:
        """:raises AssertionError: with the operations that no order explains."""
        violation = self.violation()
        assert violation is None, f"{violation}"

    async def _client(self, address: Address, requests: Iterable[int]) -> None:
        speaker, dice = self._speaker(), random.Random(self._dice.random())
        names, weights = list(self._spoken.names), list(self._spoken.names.values())
        async with connected(address) as ask:
            for _ in requests:
                [name] = dice.choices(names, weights)
                if not await self._request(ask, speaker, name, dice.choice(self._keys)):
                    return

    async def _request(self, ask: Ask, speaker: Speaker, name: Name, key: str) -> bool:
        """Do it and write it down; False when there was no answer."""
        request, operation = speaker.say(name, key, str(next(_numbers)))
        operation = evolve(operation, start=time.monotonic_ns())
        try:
            heard = await ask(request)
        except (OSError, EOFError):
            self.history.append(operation)
            return False
        end = time.monotonic_ns()
        self.history.append(evolve(speaker.hear(operation, heard), end=end))
        return True


_numbers = itertools.count(1)
"""For clients, keys and values: no two are ever the same."""


async def _in_time(*jobs: Awaitable[Any]) -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*jobs), PATIENCE)


# --- the server -------------------------------------------------------------------------------------------------------


@EACH
def test_concurrent_requests_happen_in_some_order(spoken: Spoken, dice: random.Random, tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", spoken.profile) as server:
        for clients, keys, requests in ((2, 1, 200), (4, 2, 150), (6, 3, 100), (8, 1, 50)):
            crowd = Crowd(spoken, dice, keys)
            asyncio.run(crowd.send(server.address, clients, requests))
            crowd.check()


@EACH
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


@EACH
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

    async def answer(self, method: str, target: str, top: str, body: bytes) -> Heard:
        """The answer to a request; :param top: its head."""
        key = target.rpartition("/")[2]
        found: bytes | None = b""
        match method:
            case "PUT":
                await self.put(key, body)
            case "GET":
                found = await self.get(key)
            case _:
                await (self.clear() if target == "/clear" else self.delete(key))
        return Heard(404, None, b"") if found is None else Heard(200, None, found)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(EOFError):
            while True:
                top = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, target, *_ = top.split()
                length = re.search(r"Content-Length: ([0-9]+)", top)
                body = await reader.readexactly(int(length[1])) if length else b""
                heard = await self.answer(method, target, top, body)
                tag = f"ETag: {heard.tag}\r\n" if heard.tag else ""
                head = f"HTTP/1.1 {heard.status} -\r\n{tag}Content-Length: {len(heard.body)}\r\n\r\n"
                writer.write(head.encode() + heard.body)
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


class HonestNative(Honest):
    """One that speaks as much of `native` as the clients do."""

    def __init__(self) -> None:
        super().__init__()
        self.revision = 0
        self.stored: dict[str, Known] = {}

    async def check(self, conditions: Mapping[str, int]) -> bool:
        """Whether these keys have these revisions."""
        return all(self.stored.get(key, (0, None))[0] == revision for key, revision in conditions.items())

    async def write(self, values: Mapping[str, str | None]) -> None:
        self.revision += 1
        for key, value in values.items():
            self.stored[key] = (0 if value is None else self.revision), value

    async def answer(self, method: str, target: str, top: str, body: bytes) -> Heard:
        """See `Honest`."""
        if method == "POST":
            return await self._transact(json.loads(body))
        key = target.rpartition("/")[2]
        revision, value = self.stored.get(key, (0, None))
        if value is None and method != "PUT":
            return Heard(404, None, b"")
        if method == "GET":
            assert value is not None
            return Heard(200, f'"{revision}"', value.encode())
        wanted = re.search(r'If-(?:None-)?Match: (?:\*|"([0-9]+)")', top)
        if wanted is not None and not await self.check({key: int(wanted[1] or 0)}):
            return Heard(412, None, b"")
        was_there = self.stored.get(key, (0, None))[1] is not None
        await self.write({key: body.decode() if method == "PUT" else None})
        tag = f'"{self.revision}"' if method == "PUT" else None
        return Heard(204 if was_there else 201, tag, b"")

    async def _transact(self, asked: Any) -> Heard:
        committed = await self.check({condition["key"]: condition["revision"] for condition in asked["if"]})
        results = []
        for condition in asked["if"]:
            revision, value = self.stored.get(condition["key"], (0, None))
            results.append(None if value is None else {"revision": revision, "value": value})
        if committed:
            operations = [operation for step in asked["then"] for operation in step.items()]
            values = {told["key"]: told.get("value") for name, told in operations if name != "get"}
            await self.write(values)
        outcome = {"committed": committed, "revision": self.revision, "results": results}
        return Heard(200, None, json.dumps(outcome).replace(": ", ":").encode())


class Careless(HonestNative):
    """Lets others write between the condition and the write."""

    async def check(self, conditions: Mapping[str, int]) -> bool:
        holds = await super().check(conditions)
        await turns_of_others()
        return holds


class Torn(HonestNative):
    """Writes one key after the other."""

    async def write(self, values: Mapping[str, str | None]) -> None:
        self.revision += 1
        revision = self.revision
        for key, value in values.items():
            self.stored[key] = (0 if value is None else revision), value
            await turns_of_others()


class Unconditional(HonestNative):
    """Ignores every tenth condition."""

    async def check(self, conditions: Mapping[str, int]) -> bool:
        self.writes += 1
        return self.writes % 10 == 0 or await super().check(conditions)


async def turns_of_others() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def ask_in_memory(server: Honest, crowd: Crowd) -> None:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    async with listening:
        await crowd.send(listening.sockets[0].getsockname(), clients=8, requests=50)


HONEST: Final = [(LSFR, Honest), (NATIVE, HonestNative)]
WRONG: Final = [
    *((LSFR, server) for server in (Forgetful, Stale, Hesitant, Piecemeal)),
    *((NATIVE, server) for server in (Careless, Torn, Unconditional)),
]


@pytest.mark.parametrize(("spoken", "server"), HONEST)
def test_an_honest_server_is_believed(spoken: Spoken, server: type[Honest], dice: random.Random) -> None:
    for _ in range(5):
        crowd = Crowd(spoken, dice, keys=3)
        asyncio.run(ask_in_memory(server(), crowd))
        crowd.check()


@pytest.mark.parametrize(("spoken", "server"), WRONG)
def test_a_wrong_server_is_caught(spoken: Spoken, server: type[Honest], dice: random.Random) -> None:
    def is_caught() -> bool:
        crowd = Crowd(spoken, dice, keys=3)
        try:
            asyncio.run(ask_in_memory(server(), crowd))
        except Lie:
            return True
        return crowd.violation() is not None

    assert any(is_caught() for _ in range(50))
