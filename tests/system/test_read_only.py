"""
A directory that cannot be written to: at the start that is one line, and while a server runs it is 503 for writes alone.

What a failed call does to the engine is tested in tests/unit/engine/test_faults.py; here clients and operators hear of
it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.failing_disk import TWISTD as FAILING
from tests.support.failing_disk import Faults
from tests.support.mounts import break_disk, breakable_disk, make_read_only, small_disk
from tests.support.process import MIB
from tests.support.profiles import ALL_PROFILES, LSFR, Profile
from tests.support.server import TWISTD, Server, refused, running
from tests.support.wire import Connection, ask

PROBED: Final = ["--profile", "clstr", "--profile", "keys"]
UNPRIVILEGED: Final = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *TWISTD)
"""Root without what makes it root where files are concerned."""


def write(server: Server, profile: Profile = LSFR, key: str = "k", value: bytes = b"1") -> None:
    """Write what has to be kept."""
    with Connection(server.address) as connection:
        assert profile.put(connection, key, value).status == profile.created


# --- at the start -----------------------------------------------------------------------------------------------------


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """The directory of a server, on a disk that has since become read-only."""
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        with running(disk / "data", "--profile", "lsfr") as server:
            write(server)
            server.kill()
        make_read_only(disk)
        yield disk / "data"


def test_a_disk_that_is_read_only_is_one_line(read_only: Path) -> None:
    line = refused(read_only)
    assert str(read_only) in line and "Read-only file system" in line
    make_read_only(read_only.parent, False)
    with running(read_only, "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/k").body == b"1"


def test_a_directory_without_the_right_to_write_is_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, "--profile", "lsfr") as server:
        write(server)
        server.stop()
        (data / "lock").unlink()
    data.chmod(0o555)
    line = refused(data, twistd=UNPRIVILEGED if os.geteuid() == 0 else TWISTD)
    assert str(data) in line and "Permission denied" in line
    data.chmod(0o755)
    with running(data, "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/k").body == b"1"


@pytest.mark.parametrize("part", ["manifest", "journal"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, part: str) -> None:
    data, faults = tmp_path / "data", Faults(tmp_path / "faults")
    with running(data, "--profile", "lsfr") as server:
        write(server)
        server.stop()
    with running(data, "--profile", "lsfr") as server:
        write(server, key="later")
        server.kill()
    faults.fail("read", errno.EIO, part)
    line = refused(data, twistd=FAILING, environment=faults.environment)
    assert str(data) in line and "Input/output error" in line
    with running(data, "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/k").body == b"1"
        assert ask(server.address, "GET", "/kv/later").body == b"1"


# --- while it runs ----------------------------------------------------------------------------------------------------


def assert_read_only(server: Server, profile: Profile, key: str = "k", value: bytes = b"1") -> None:
    """Writes are refused in the format of the profile, for all their tries, and reads go on."""
    with Connection(server.address) as connection:
        for name in (key, "other"):
            answer = profile.put(connection, name, b"2")
            profile.is_error(answer, 503)
            assert answer.header("retry-after")
        answer = connection.ask("GET", profile.target(key))
        assert (answer.status, answer.body) == (200, profile.shown(key, value))
        assert connection.ask("GET", profile.target("other")).status == 404
    assert server.is_alive()


def test_a_disk_that_turns_read_only_keeps_all_that_was_acknowledged(tmp_path: Path) -> None:
    """The kernel makes a disk read-only when it finds an error on it."""
    disk, image = tmp_path / "disk", tmp_path / "image"
    with breakable_disk(disk, image):
        with running(disk / "data", *PROBED) as server:
            write(server)
            break_disk(disk)
            assert_read_only(server, LSFR)
            assert ask(server.address, "GET", "/health").status == 503
            assert b"\nkvtwist_store_read_only 1.0\n" in ask(server.address, "GET", "/metrics").body
            server.stop()
            assert "Traceback" not in server.output() + server.errors(), server.output()
        assert "Read-only file system" in refused(disk / "data")
    with breakable_disk(disk, image), running(disk / "data", "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/k").body == b"1"
        assert ask(server.address, "GET", "/kv/other").status == 404
        write(server, value=b"3")


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: str(profile.name))
def test_after_a_failed_sync_writes_are_503_until_a_restart(profile: Profile, tmp_path: Path) -> None:
    data, faults = tmp_path / "data", Faults(tmp_path / "faults")
    options = ["--profile", profile.name, "--store", "dir"]
    with running(data, *options, twistd=FAILING, environment=faults.environment) as server:
        write(server, profile)
        faults.fail("sync", errno.EIO, "journal")
        assert_read_only(server, profile)
        faults.heal()
        assert_read_only(server, profile)
        server.stop()
        assert "Traceback" not in server.output() + server.errors(), server.output()
    with running(data, *options) as server:
        # The write whose sync failed may be there or not; those after it were never tried.
        assert profile.read(server.address, "k") in (b"1", b"2")
        assert profile.read(server.address, "other") is None
        write(server, profile, "other", b"3")


def test_health_is_503_once_the_store_is_read_only(tmp_path: Path) -> None:
    faults = Faults(tmp_path / "faults")
    with running(tmp_path / "data", *PROBED, twistd=FAILING, environment=faults.environment) as server:
        assert ask(server.address, "GET", "/health").status == 200
        faults.fail("sync", errno.EIO, "journal")
        assert ask(server.address, "PUT", "/kv/k", b"1").status == 503
        for method in ("GET", "HEAD"):
            assert ask(server.address, method, "/health").status == 503
    with running(tmp_path / "data", *PROBED) as server:
        assert ask(server.address, "GET", "/health").status == 200


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: str(profile.name))
def test_a_page_that_cannot_be_read_is_503_for_who_needs_it(profile: Profile, tmp_path: Path) -> None:
    data, faults = tmp_path / "data", Faults(tmp_path / "faults")
    options = ["--profile", profile.name, "--store", "dir"]
    with running(data, *options) as server:
        write(server, profile)
        server.stop()
    with running(data, *options, twistd=FAILING, environment=faults.environment) as server:
        faults.fail("read", errno.EIO, "pages")
        with Connection(server.address) as connection:
            for _ in range(2):
                profile.is_error(connection.ask("GET", profile.target("k")), 503)
            faults.heal()
            assert connection.ask("GET", profile.target("k")).body == profile.shown("k", b"1")
        assert "Traceback" not in server.output() + server.errors(), server.output()
