"""
A real disk that is full: writes are refused in the profile's error format, and nothing acknowledged is lost. Deleting,
clearing and expiry always make room.

When there is room again, writes succeed without a restart. tests/unit/engine/test_faults.py tests each step of the
engine on a full disk; here the kernel refuses.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.answer import Answer
from tests.support.mounts import Ballast, small_disk
from tests.support.process import MIB, forget_peak, peak_memory
from tests.support.profiles import ALL_PROFILES, KEYS, LSFR, NATIVE, TRANSACTIONAL, Profile, value_of
from tests.support.server import PATIENCE, Server, running, twistd_after, until
from tests.support.tools import kvtwist
from tests.support.wire import Connection, ask
from tests.system.swarm import clients

SIZE = 4 * MIB
IMPATIENT = twistd_after("from kvtwist.engine import checkpointer; checkpointer.RETRY_SECONDS = 0.5")
"""Tries a checkpoint that failed again sooner, so that a test need not wait for so long."""
FORGETFUL = twistd_after("from kvtwist.profiles import history; history.KEPT_MS = 1000")
"""Keeps events for a second: `history` has room again when they are gone."""
FULL, FREE = "the disk is full", "there is free disk space again"
BOTH = ("--profile", "lsfr", "--profile", "keys")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is soon full."""
    with small_disk(tmp_path / "disk", SIZE) as place:
        yield place


def fill(server: Server, profile: Profile, value: bytes, name: str = "full") -> tuple[dict[str, bytes], Answer]:
    """Write until something is refused; returns what was acknowledged, and the refusal."""
    kept: dict[str, bytes] = {}
    with Connection(server.address) as connection:
        for number in range(20_000):
            key = f"{name}{number}"
            answer = profile.put(connection, key, value)
            if answer.status != profile.created:
                return kept, answer
            kept[key] = value
    raise AssertionError("the disk is never full")


def assert_there(server: Server, profile: Profile, kept: dict[str, bytes], refused: str) -> None:
    """All that was acknowledged can be read, and what was refused is not there."""
    with Connection(server.address) as connection:
        for key, value in kept.items():
            answer = connection.ask("GET", profile.target(key))
            assert (answer.status, answer.body) == (200, profile.shown(key, value)), key
        assert connection.ask("GET", profile.target(refused)).status == 404


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: str(profile.name))
def test_a_write_without_room_is_507_until_there_is_room(profile: Profile, disk: Path) -> None:
    ballast = Ballast(disk)
    value = value_of(min(profile.max_value, 5000))
    with running(disk, "--profile", profile.name, "--store", "dir") as server:
        ballast.fill(leave=20 * 4096)
        kept, refusal = fill(server, profile, value)
        assert len(kept) > 5
        profile.is_error(refusal, 507)
        assert_there(server, profile, kept, f"full{len(kept)}")
        ballast.remove()
        with Connection(server.address) as connection:
            assert profile.put(connection, "after", value).status == profile.created
        kept["after"] = value
        server.kill()
    with running(disk, "--profile", profile.name, "--store", "dir") as server:
        assert "unfinished frame" not in server.output(), "a part of what was refused was still in the journal"
        refused = f"full{len(kept) - 1}"
        if profile.commits:  # its value may have been staged, and just the commit refused
            refused = "never"
        assert_there(server, profile, kept, refused)


def test_where_a_large_value_has_no_room_small_ones_have(disk: Path) -> None:
    ballast = Ballast(disk)
    large, small = b"l" * 4 * MIB, b"s"
    with running(disk, *BOTH) as server:
        ballast.fill(leave=1 * MIB)
        with Connection(server.address) as connection:
            for number in range(50):
                LSFR.is_error(LSFR.put(connection, "large", large), 507)
                assert LSFR.put(connection, f"small{number}", small).status == 200
        found = ask(server.address, "GET", "/keys").json()
        assert found == {f"small{number}": "s" for number in range(50)}
        server.kill()
    with running(disk, *BOTH) as server:
        assert ask(server.address, "GET", "/keys").json() == found


@pytest.mark.parametrize("writers", [1, 4])
def test_small_values_succeed_beside_large_ones_that_have_no_room(disk: Path, writers: int) -> None:
    ballast = Ballast(disk)
    kept: dict[str, str] = {}

    async def write_all(server: Server) -> None:
        enough = asyncio.Event()
        left = writers

        async def write_large(size: int) -> None:
            nonlocal left
            async with clients(server.address, 1) as [client]:
                for _ in range(30):
                    status, body = await client.ask("PUT", "/kv/large", b"l" * size)
                    assert status == 507
                    assert str(disk).encode() not in body
            left -= 1
            if not left:
                enough.set()

        async def write_small(name: int) -> None:
            async with clients(server.address, 1) as [client]:
                for number in count():
                    if enough.is_set():
                        return
                    key = f"s{name}-{number}"
                    status, _ = await client.ask("PUT", f"/kv/{key}", b"%d" % number)
                    assert status == 200, "it has room"
                    kept[key] = str(number)

        large = [write_large((2 + number) * MIB) for number in range(writers)]
        await asyncio.wait_for(asyncio.gather(*large, *map(write_small, range(4))), PATIENCE)

    with running(disk, *BOTH) as server:
        ballast.fill(leave=1 * MIB)
        asyncio.run(write_all(server))
        print(f"{len(kept)} small values beside {writers * 30} large ones that were refused")
        assert len(kept) > 30
        assert ask(server.address, "GET", "/keys").json() == kept
        server.kill()
    with running(disk, *BOTH) as server:
        assert ask(server.address, "GET", "/keys").json() == kept


@pytest.mark.parametrize("scarce", ["bytes", "files"])
def test_without_room_for_checkpoints_memory_stays_bounded(scarce: str, tmp_path: Path) -> None:
    """The journal can still grow where there is room for bytes and not for files; what is in memory then cannot."""
    refusals = set()
    with (
        small_disk(tmp_path / "disk", 2 * SIZE, files=60 if scarce == "files" else 0) as disk,
        running(disk, *BOTH, "--memory-limit=1MiB", twistd=IMPATIENT) as server,
    ):
        ballast = Ballast(disk)
        kept = {"first": b"1"}
        assert LSFR.put(Connection(server.address), "first", b"1").status == 200  # there is a journal to grow
        if scarce == "files":
            ballast.fill_names()
        else:
            ballast.fill(leave=2 * MIB)
        before = forget_peak(server.pid)
        with Connection(server.address) as connection:
            for number in range(3000):
                key, value = f"k{number}", b"%d " % number + b"v" * 4000
                answer = LSFR.put(connection, key, value)
                if answer.status == 200:
                    kept[key] = value
                else:
                    LSFR.is_error(answer, answer.status)
                    refusals.add(answer.status)
        grown = peak_memory(server.pid) - before
        print(
            f"{len(kept)} of 3000 writes were acknowledged, {refusals} told to the others, {grown / MIB:.1f} MiB more"
        )
        assert refusals and refusals <= {503, 507}
        assert grown < 8 * MIB, "12 MB were written"
        assert_there(server, LSFR, kept, "k2999")
        server.wait_for("the disk is full")
        assert "Traceback" not in server.output()
        before_room = server.lines
        ballast.remove()
        server.wait_for("there is free disk space again", before_room)
        assert LSFR.put(Connection(server.address), "after", b"1").status == 200
        server.kill()
        with running(disk, *BOTH) as server:
            assert_there(server, LSFR, {**kept, "after": b"1"}, "k2999")


@pytest.mark.parametrize("profile", [LSFR, TRANSACTIONAL], ids=lambda profile: str(profile.name))
@pytest.mark.parametrize("scarce", ["bytes", "files"])
def test_a_start_without_room_is_good_for_reading_until_there_is_room(
    profile: Profile, scarce: str, tmp_path: Path
) -> None:
    value = value_of(min(profile.max_value, 5000))
    options = ("--profile", profile.name, "--store", "dir")
    with small_disk(tmp_path / "disk", SIZE, files=60) as disk:
        ballast = Ballast(disk)
        kept: dict[str, bytes] = {}
        with running(disk, *options) as server, Connection(server.address) as connection:
            for number in range(20):
                kept[f"k{number}"] = value
                assert profile.put(connection, f"k{number}", value).status == profile.created
            server.kill()
        Server(disk, *options).kill()  # cuts off what the journal has grown ahead
        for name in ("journal-spare", "admin.sock", "admin.sock.lock"):  # which would make way
            (disk / name).unlink(missing_ok=True)
        if scarce == "files":
            ballast.fill_names()
        else:
            ballast.fill()
        for life, stop in enumerate((Server.kill, Server.stop, None)):
            with running(disk, *options) as server:
                for name in (f"more{life}x", f"again{life}x"):  # a checkpoint of what was replayed may make a little
                    more, refusal = fill(server, profile, value, name)
                    kept.update(more)
                    profile.is_error(refusal, 507)
                    assert str(disk).encode() not in refusal.body
                    refused = "never" if profile.commits else f"{name}{len(more)}"
                assert_there(server, profile, kept, refused)
                if stop is not None:
                    stop(server)
                else:
                    ballast.remove()
                    with Connection(server.address) as connection:
                        kept["more"] = value
                        assert profile.put(connection, "more", value).status == profile.created
                    assert_there(server, profile, kept, "never")
                    server.kill()
                assert "Traceback" not in server.output() + server.errors(), server.output()
        with running(disk, *options) as server:
            assert_there(server, profile, kept, "never")


def remove_most(server: Server, profile: Profile, kept: dict[str, bytes]) -> int:
    """Delete nine of ten keys, each of which has to succeed, and look whether the others are there; returns how many."""
    doomed = [key for number, key in enumerate(kept) if number % 10]
    with Connection(server.address) as connection:
        for key in doomed:
            answer = profile.remove(connection, key)
            assert answer.status < 300, answer
            del kept[key]
    assert_there(server, profile, kept, doomed[0])
    return len(doomed)


def write_again(server: Server, profile: Profile, value: bytes, count: int) -> dict[str, bytes]:
    """Write so many keys, the first one as soon as there is room."""
    names = [f"again{number}" for number in range(count)]
    with Connection(server.address) as connection:
        until(lambda: profile.put(connection, names[0], value).status == profile.created)
        for name in names[1:]:
            assert profile.put(connection, name, value).status == profile.created
    return dict.fromkeys(names, value)


def states_logged(server: Server) -> list[str]:
    """What the log says about the disk, in order."""
    return re.findall(f"{FULL}|{FREE}", server.output())


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: str(profile.name))
def test_deleting_makes_room(profile: Profile, disk: Path) -> None:
    value = value_of(min(profile.max_value, 5000))
    options = ("--profile", profile.name, "--store", "dir")
    with running(disk, *options, twistd=FORGETFUL) as server:
        kept, refusal = fill(server, profile, value)
        profile.is_error(refusal, 507)
        server.wait_for(FULL)
        deleted = remove_most(server, profile, kept)
        kept.update(write_again(server, profile, value, deleted // 2))
        until(lambda: states_logged(server)[-1] == FREE)
        assert_there(server, profile, kept, "never")
        # `history` also keeps what was deleted for a second, so it may be full once more while we write.
        assert states_logged(server) == [FULL, FREE] * (len(states_logged(server)) // 2)
        assert "failed" not in server.output() + server.errors(), server.output()
        server.kill()
    with running(disk, *options) as server:
        assert_there(server, profile, kept, "never")
    assert kvtwist("check", disk).exit_code == 0


@pytest.mark.parametrize("stop", [Server.kill, Server.stop], ids=["kill", "stop"])
def test_deleting_makes_room_after_a_start_on_a_full_disk(stop: Callable[[Server], int], disk: Path) -> None:
    value = value_of(5000)
    with running(disk, *BOTH) as server:
        kept, _ = fill(server, LSFR, value)
        stop(server)
    with running(disk, *BOTH) as server:
        deleted = remove_most(server, LSFR, kept)
        kept.update(write_again(server, LSFR, value, deleted // 2))
        assert_there(server, LSFR, kept, "never")


@pytest.mark.parametrize("size", [300, 5000])
def test_deleting_makes_room_where_others_have_filled_the_disk(size: int, disk: Path) -> None:
    value = value_of(size)
    ballast = Ballast(disk)
    kept = {f"k{number}": value for number in range(1_500_000 // size)}
    with running(disk, *BOTH) as server:
        with Connection(server.address) as connection:
            for key in kept:
                assert LSFR.put(connection, key, value).status == 200
        ballast.fill()
        fill(server, LSFR, value)  # what the journal has grown ahead
        deleted = remove_most(server, LSFR, kept)
        kept.update(write_again(server, LSFR, value, deleted // 4))
        assert_there(server, LSFR, kept, "never")
        server.kill()
    with running(disk, *BOTH) as server:
        assert_there(server, LSFR, kept, "never")


@pytest.mark.parametrize("profile", [LSFR, KEYS, NATIVE], ids=lambda profile: str(profile.name))
def test_clearing_makes_room(profile: Profile, disk: Path) -> None:
    value = value_of(5000)
    with running(disk, "--profile", profile.name) as server:
        kept, _ = fill(server, profile, value)
        assert ask(server.address, "DELETE", profile.clear).status < 300
        assert_there(server, profile, write_again(server, profile, value, len(kept) // 2), "full0")


def test_what_expires_makes_room(disk: Path) -> None:
    value = value_of(60_000)
    with running(disk, *BOTH) as server:
        with Connection(server.address) as connection:
            for number in count():
                answer = connection.ask("PUT", f"/keys/k{number}?expire_in=5", value)
                if answer.status != 201:
                    break
            KEYS.is_error(answer, 507)
            until(lambda: connection.ask("GET", f"/keys/k{number - 1}").status == 404)
        assert_there(server, KEYS, write_again(server, KEYS, value, number // 2), "k0")
