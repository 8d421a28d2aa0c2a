"""Servers that listen on sockets in the file system, and where a kill has left one behind."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.support.server import PATIENCE, refused, running
from tests.support.tools import kvtwist


def status(path: Path) -> bytes:
    """What `GET /kv/a` is answered with there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall(b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.recv(12)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["data", "a=b", "mode=777", "a:b", "a\\b", "a b", "é" * 60, "d" * 150])
def test_the_admin_site_is_there_whatever_the_directory_is_called_and_after_a_kill(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    for number in range(3):
        if number == 1:
            # What former versions put there: a link to the number of a process, which in a container may be alive.
            (data / "admin.sock.lock").symlink_to("1")
        with running(data, "--profile", "lsfr") as server:
            assert f"Admin site listening on {data}/admin.sock" in server.output()
            assert mode(data / "admin.sock") == 0o600
            copy = kvtwist("backup", data, tmp_path / f"copy {number}")
            assert copy.exit_code == 0, copy.output
            if number == 2:
                server.stop()
    assert not (data / "admin.sock").exists()
    assert not (data / "admin.sock.lock").is_symlink()


def test_a_file_in_the_place_of_the_admin_site_stays_and_the_server_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin.sock").write_text("mine")
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        server.wait_for(r"warn kvtwist\.web: Admin site: cannot listen on .*/data/admin\.sock: Address already in use")
    assert (tmp_path / "data" / "admin.sock").read_text() == "mine"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("unix:{}", 0o600),
        ("unix:address={}", 0o600),
        ("unix:{}:mode=660", 0o660),
        ("unix:{}:backlog=5:mode=666", 0o666),
    ],
)
def test_a_socket_is_for_its_owner_unless_the_endpoint_says_otherwise(
    tmp_path: Path, endpoint: str, expected: int
) -> None:
    path = tmp_path / "socket"
    options = ("--profile", "lsfr", "--endpoint", endpoint.format(path))
    for _ in range(2):  # the second time with what the first one left behind
        with running(tmp_path / "data", *options):
            assert mode(path) == expected
            assert status(path) == b"HTTP/1.1 404"
    assert path.exists()


def test_a_socket_in_use_is_left_to_its_server(tmp_path: Path) -> None:
    options = ("--profile", "lsfr", "--endpoint", f"unix:{tmp_path}/socket")
    with running(tmp_path / "data", *options) as server:
        assert "Address already in use" in refused(tmp_path / "other", *options)
        assert status(tmp_path / "socket") == b"HTTP/1.1 404"
        server.stop()
    assert not os.path.exists(tmp_path / "socket")


def test_a_path_that_is_too_long_for_a_socket_is_one_line(tmp_path: Path) -> None:
    assert "too long" in refused(tmp_path / "data", "--endpoint", f"unix:{tmp_path}/{'a' * 120}")
