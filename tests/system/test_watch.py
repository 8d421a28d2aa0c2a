"""Watches of real processes: over SIGKILL, by clients that do not read, and by other people's clients."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any

import aiohttp
import h11
import pytest
import requests

from tests.conftest import StartServer
from tests.support.events import EventStream, Told
from tests.support.process import MIB, forget_peak, peak_memory
from tests.support.server import PATIENCE, Server, running, until
from tests.support.wire import Connection, ask, head

NATIVE = ("--profile", "native")


@pytest.fixture
def server(serve: StartServer) -> Server:
    """A process, the same for all."""
    return serve(*NATIVE, "--profile", "lsfr", "--store", "memory")


# --- a mirror ---------------------------------------------------------------------------------------------------------


class Mirror:
    """
    Lists, watches after that, and comes back whenever it is cut off, in a thread of its own.

    :ivar items: what it believes that the store holds, by key.
    :ivar changes: every change that it was told, as (revision, kind, key).
    """

    def __init__(self) -> None:
        self.address = ("", 0)
        self.items: dict[str, Any] = {}
        self.changes: list[tuple[int, str, str]] = []
        self.listings = 0
        self.reached = 0
        self.error: BaseException | None = None
        self._last_id = ""
        self._partial: list[tuple[int, str, str]] = []
        """What it was told of the transaction whose end it does not know yet."""
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def come_to(self, address: tuple[str, int]) -> None:
        self.address = address
        if not self.listings:
            self._list()
            self._thread.start()

    def expects_expiry(self) -> bool:
        return any(item["expires"] is not None for item in list(self.items.values()))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(PATIENCE)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except (OSError, HTTPException):
                self._stopped.wait(0.02)  # the server is down; its next address comes with it
            except BaseException as error:
                self.error = error
                return

    def _list(self) -> None:
        page = ask(self.address, "GET", "/v1/kv?limit=1000").json()
        assert page["next"] is None
        self.listings += 1
        self.items = {item["key"]: item for item in page["items"]}
        self._last_id = str(page["revision"])
        self.reached = page["revision"]
        self._partial = []

    def _watch(self) -> None:
        with EventStream(self.address, last_id=self._last_id) as stream:
            if stream.status == 410:
                self._list()
                return
            assert stream.status == 200
            again, self._partial = self._partial, []
            for told in stream:
                if self._stopped.is_set():
                    return
                if told.data is not None:
                    self._apply(told, again)
                if told.id is not None:
                    assert int(told.id) >= int(self._last_id)
                    self._last_id = told.id
                    self._partial = []
                    self.reached = int(told.id)

    def _apply(self, told: Told, again: list[tuple[int, str, str]]) -> None:
        change = told.data["revision"], told.kind, told.data.get("key", "")
        self._partial.append(change)
        if self._partial == again[: len(self._partial)]:
            return  # the connection was lost within this transaction
        assert not self.changes or change[0] >= self.changes[-1][0]
        self.changes.append(change)
        if told.kind == "put":
            self.items[told.data["key"]] = told.data
        elif told.kind == "clear":
            self.items.clear()
        else:
            self.items.pop(told.data["key"], None)


def write_something(address: tuple[str, int], dice: random.Random) -> None:
    keys = [f"k{number}" for number in dice.sample(range(30), 6)]
    kind = dice.randrange(20)
    if kind < 11:
        target = f"/v1/kv/{keys[0]}{dice.choice(['', '', '?ttl=1', '?ttl=2'])}"
        ask(address, "PUT", target, str(dice.random()).encode())
    elif kind < 15:
        ask(address, "DELETE", f"/v1/kv/{keys[0]}")
    elif kind < 19:
        operations = [{"put": {"key": key, "value": str(dice.random())}} for key in keys[1:]]
        ask(address, "POST", "/v1/txn", json.dumps({"then": [*operations, {"delete": {"key": keys[0]}}]}).encode())
    else:
        ask(address, "DELETE", "/clear")


def write_until_it_ends(address: tuple[str, int], dice: random.Random) -> None:
    with suppress(OSError, h11.RemoteProtocolError):
        while True:
            write_something(address, dice)


def test_a_mirror_is_exact_over_kills_and_restarts(tmp_path: Path) -> None:
    dice = random.Random(7)
    mirror = Mirror()
    for end in (Server.kill, Server.stop, Server.kill):
        with running(tmp_path / "data", *NATIVE, "--profile", "lsfr") as server:
            mirror.come_to(server.address)
            writer = Thread(target=write_until_it_ends, args=(server.address, dice))
            writer.start()
            goal = len(mirror.changes) + 250
            until(lambda goal=goal: mirror.error is not None or len(mirror.changes) > goal)  # type: ignore[misc]
            end(server)
            writer.join()
    with running(tmp_path / "data", *NATIVE, "--profile", "lsfr") as server:
        mirror.come_to(server.address)
        for _ in range(100):
            write_something(server.address, dice)
        until(lambda: mirror.error is not None or not mirror.expects_expiry())
        revision = ask(server.address, "GET", "/v1/status").json()["revision"]
        until(lambda: mirror.error is not None or mirror.reached >= revision)
        mirror.stop()
        assert mirror.items == {item["key"]: item for item in ask(server.address, "GET", "/v1/kv").json()["items"]}
    assert len(mirror.changes) == len(set(mirror.changes)), "a change was told twice"
    assert {kind for _, kind, _ in mirror.changes} == {"put", "delete", "expire", "clear"}
    # A stop in good order ends with a checkpoint, and what was written after the watch had ended is not kept.
    assert mirror.listings <= 2, "a watch was lost, though the journal had what it missed"


# --- clients that do not read -----------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_costs_little_and_is_told_at_last(tmp_path: Path) -> None:
    options = ("--memory-limit", "16MiB", "--max-in-flight", "32MiB")
    value = random.Random(1).randbytes(MIB // 2)
    with running(tmp_path / "data", *NATIVE, *options) as server, Connection(server.address) as writer:
        for _ in range(4):
            assert writer.ask("PUT", "/v1/kv/k", value).status in (201, 204)
        stays = EventStream(server.address)
        sleepers = [socket.create_connection(server.address, PATIENCE) for _ in range(20)]
        for sleeper in sleepers:
            sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sleeper.sendall(head("GET", "/v1/watch"))
            assert b"text/event-stream" in sleeper.recv(1000)
        before = forget_peak(server.pid)
        for _ in range(200):
            assert writer.ask("PUT", "/v1/kv/k", value).status == 204
        assert peak_memory(server.pid) - before < 80 * MIB
        with stays:
            events = [told.kind for told in stays if told.data is not None]
        assert set(events[:-1]) <= {"put"}
        assert events[-1] == "gone"
        for sleeper in sleepers:
            sleeper.close()
        assert writer.ask("GET", "/v1/kv/k").body == value


# --- other people's clients -------------------------------------------------------------------------------------------


def sent_events(lines: Iterator[bytes], count: int) -> list[tuple[str, str]]:
    """Kind and key of so many events."""
    found: list[tuple[str, str]] = []
    kind = ""
    for line in lines:
        name, _, value = line.decode().partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            found.append((kind, json.loads(value)["key"]))
            if len(found) == count:
                break
    return found


@pytest.fixture
def prefix(server: Server, request: pytest.FixtureRequest) -> str:
    """Of keys that have changed before: three changes after the revision in `revision`."""
    return f"{request.node.name}/"


def changed(server: Server, prefix: str) -> str:
    """Make three changes; returns the target of a watch that tells of them."""
    url = f"http://{server.address[0]}:{server.address[1]}"
    revision = requests.get(f"{url}/v1/status", timeout=PATIENCE).json()["revision"]
    for key in ("a", "b"):
        assert requests.put(f"{url}/v1/kv/{prefix}{key}", data=key, timeout=PATIENCE).status_code == 201
    assert requests.delete(f"{url}/v1/kv/{prefix}a", timeout=PATIENCE).status_code == 204
    return f"{url}/v1/watch?prefix={prefix}&after={revision}"


def test_requests(server: Server, prefix: str) -> None:
    with requests.get(changed(server, prefix), stream=True, timeout=PATIENCE) as response:
        found = sent_events(response.iter_lines(), 3)
    assert found == [("put", f"{prefix}a"), ("put", f"{prefix}b"), ("delete", f"{prefix}a")]


def test_aiohttp(server: Server, prefix: str) -> None:
    async def read() -> list[bytes]:
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(changed(server, prefix)) as response:
            lines: list[bytes] = []
            while sum(line.startswith(b"data: ") for line in lines) < 3:
                lines.append((await response.content.readline()).rstrip(b"\n"))
            return lines

    found = sent_events(iter(asyncio.run(read())), 3)
    assert found == [("put", f"{prefix}a"), ("put", f"{prefix}b"), ("delete", f"{prefix}a")]


PAGE = """<!doctype html><title>waiting</title><pre id=out></pre><script>
const source = new EventSource("TARGET");
const seen = [];
for (const kind of ["put", "delete"])
  source.addEventListener(kind, (event) => {
    seen.push([kind, JSON.parse(event.data).key, event.lastEventId]);
    if (seen.length === 3) {
      source.close();
      document.getElementById("out").textContent = "SEEN" + JSON.stringify(seen) + "END";
    }
  });
</script>"""


def test_a_browser(server: Server, prefix: str, tmp_path: Path) -> None:
    """Chromium reads the page from the server, too, so that the watch has the same origin."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    target = changed(server, prefix)
    first = int(target.rpartition("=")[2]) + 1
    url = f"http://{server.address[0]}:{server.address[1]}/v1/kv/page"
    page = PAGE.replace("TARGET", target)
    requests.put(url, data=page, headers={"Content-Type": "text/html"}, timeout=PATIENCE).raise_for_status()
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command = [chromium, *options, "--virtual-time-budget=5000", "--dump-dom", url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=True).stdout
    seen = json.loads(shown.partition("SEEN")[2].partition("END")[0])
    assert seen == [
        ["put", f"{prefix}a", str(first)],
        ["put", f"{prefix}b", str(first + 1)],
        ["delete", f"{prefix}a", str(first + 2)],
    ]
