"""
A store in memory that is full: writes are 507 in words of the profile's own, reads go on, and what is deleted or expires
makes room. The process does not grow beyond its limit.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from tests.support.answer import Answer
from tests.support.process import MIB, forget_peak, peak_memory
from tests.support.profiles import ALL_PROFILES, HISTORY, KEYS, LSFR, NATIVE, Profile, value_of
from tests.support.server import Server, running, until
from tests.support.wire import Connection

FULL = ("--store", "memory", "--memory-limit=1MiB")


def fill(connection: Connection, profile: Profile, value: bytes) -> tuple[int, Answer]:
    """Write keys until one is refused; returns how many there are, and the refusal."""
    for number in range(5000):
        answer = profile.put(connection, f"k{number}", value)
        if answer.status == 507:
            return number, answer
    raise AssertionError("the store is never full")


def get(connection: Connection, profile: Profile, key: str) -> Answer:
    return connection.ask("GET", profile.target(key))


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: str(profile.name))
def test_it_says_507_and_takes_more_once_something_is_deleted(profile: Profile, tmp_path: Path) -> None:
    value = value_of(min(profile.max_value, 5000))
    with running(tmp_path, "--profile", profile.name, *FULL) as server, Connection(server.address) as connection:
        number, refusal = fill(connection, profile, value)
        profile.is_error(refusal, 507)
        for _ in range(20):
            profile.is_error(profile.put(connection, "more", value), 507)
        for known in range(number):
            assert get(connection, profile, f"k{known}").body == profile.shown(f"k{known}", value)
        assert get(connection, profile, "more").status == 404
        deleted = 5 if profile is HISTORY else 1  # it remembers what was deleted
        for known in range(deleted):
            assert profile.remove(connection, f"k{known}").status < 300
        assert profile.put(connection, "more", value).status == profile.created
        assert get(connection, profile, "more").body == profile.shown("more", value)


@pytest.mark.parametrize("profile", [LSFR, KEYS, NATIVE], ids=lambda profile: str(profile.name))
def test_it_takes_as_much_again_once_it_is_cleared(profile: Profile, tmp_path: Path) -> None:
    value = value_of(5000)
    with running(tmp_path, "--profile", profile.name, *FULL) as server, Connection(server.address) as connection:
        number, _ = fill(connection, profile, value)
        for _ in range(3):
            assert connection.ask("DELETE", profile.clear).status < 300
            assert fill(connection, profile, value)[0] == number


def test_it_takes_as_much_again_once_everything_has_expired(tmp_path: Path) -> None:
    value = value_of(5000)
    with running(tmp_path, "--profile", "keys", *FULL) as server, Connection(server.address) as connection:
        for number in count():
            answer = connection.ask("PUT", f"/keys/k{number}?expire_in=1", value)
            if answer.status != 201:
                break
        KEYS.is_error(answer, 507)
        until(lambda: KEYS.put(connection, "more", value).status == 201)
        KEYS.remove(connection, "more")
        until(lambda: fill(connection, KEYS, value)[0] == number)  # the sweeper may not be through with all of them


def test_the_process_stays_small(tmp_path: Path) -> None:
    def load(server: Server) -> tuple[int, int]:
        """How many of 128 writes, 32 MiB in all, are refused, and by how much the process grows at the most."""
        before = forget_peak(server.pid)
        with Connection(server.address) as connection:
            answers = [LSFR.put(connection, f"k{number}", b"v" * (MIB // 4)) for number in range(128)]
            for number in range(128):
                get(connection, LSFR, f"k{number}")
        return [answer.status for answer in answers].count(507), peak_memory(server.pid) - before

    grown: dict[str, int] = {}
    for limit in ("4MiB", "64MiB"):
        with running(tmp_path, "--profile", "lsfr", "--store=memory", f"--memory-limit={limit}") as server:
            refused, grown[limit] = load(server)
            print(f"--memory-limit {limit}: {refused} of 128 refused, {grown[limit] / MIB:.1f} MiB more")
            assert refused > 100 if limit == "4MiB" else not refused
    assert grown["4MiB"] < 12 * MIB
    assert grown["64MiB"] > 24 * MIB, "this would not tell"
