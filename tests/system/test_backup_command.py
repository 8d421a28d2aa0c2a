"""`kvtwist backup` and `restore`: a running server's data arrives whole, up to one revision, or not at all."""

from __future__ import annotations

import io
import json
import re
import socket
import tarfile
import threading
from pathlib import Path

from tests.support.server import PATIENCE, Server, running
from tests.support.wire import Connection, ask
from tests.system.test_kvtwist_command import kvtwist

BUSY = ("--profile", "lsfr", "--memory-limit", "1MiB")
VALUE = "v" * 500


class Writer:
    """
    Writes key after key to a server until it is stopped.

    :ivar acknowledged: how many writes were answered.
    """

    def __init__(self, server: Server) -> None:
        self.acknowledged = 0
        self._server = server
        self._stopped = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join(PATIENCE)

    def _write(self) -> None:
        with Connection(self._server.address) as connection:
            while not self._stopped:
                number = self.acknowledged
                assert connection.ask("PUT", f"/kv/{number:06d}", f"{number}-{VALUE}".encode()).status == 200
                with self._news:
                    self.acknowledged += 1
                    self._news.notify_all()

    def wait_for(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.acknowledged >= count, PATIENCE)


def numbers(path: Path) -> list[int]:
    """The keys of a directory, all of which have the right value."""
    process = kvtwist("export", path)
    assert process.returncode == 0, process
    found = []
    for line in process.stdout.splitlines():
        fields = json.loads(line)
        if "key" in fields:
            assert fields["value"] == f"{int(fields['key'])}-{VALUE}"
            found.append(int(fields["key"]))
    return found


def test_backups_of_a_busy_server_are_each_all_that_was_written_up_to_a_moment(tmp_path: Path) -> None:
    with running(tmp_path / "data", *BUSY) as server:
        with Writer(server) as writer:
            for count in (1, 700, 1400):
                writer.wait_for(count)
                before = writer.acknowledged
                process = kvtwist("backup", tmp_path / "data", tmp_path / f"copy-{count}")
                assert process.returncode == 0, process
                assert kvtwist("check", tmp_path / f"copy-{count}").returncode == 0
                found = numbers(tmp_path / f"copy-{count}")
                assert len(found) >= before
                assert found == list(range(len(found))), "what came later is there, and what came before it is not"
        assert "checkpoint of revision" in server.output()
        assert ask(server.address, "GET", "/kv/000000").status == 200
    assert kvtwist("check", tmp_path / "data").returncode == 0


def test_a_backup_is_a_working_directory(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/a", b"1")
        assert kvtwist("backup", tmp_path / "data", tmp_path / "copy").returncode == 0
        ask(server.address, "PUT", "/kv/a", b"2")
    with running(tmp_path / "copy", "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/a").body == b"1"
        assert ask(server.address, "PUT", "/kv/a", b"3").status == 200


def test_from_a_url_from_a_directory_and_restored(tmp_path: Path) -> None:
    options = ("--profile", "lsfr", "--admin", "tcp:0:interface=127.0.0.1")
    with running(tmp_path / "data", *options) as server:
        ask(server.address, "PUT", "/kv/a", b"1")
        address = server.wait_for(r"Admin site listening on (\S+)")[1]
        made = kvtwist("backup", f"http://{address}", tmp_path / "from url", "--json")
        assert made.returncode == 0, made
        fields = json.loads(made.stdout)
        assert (fields["type"], fields["directory"], fields["revision"]) == ("backup", str(tmp_path / "from url"), 1)
        refused = kvtwist("backup", tmp_path / "data", tmp_path / "no")
        assert refused.returncode == 3
        assert b"give the URL of its admin site" in refused.stderr
        server.kill()
    for source, target in (("data", "second"), ("from url", "third")):
        assert kvtwist("backup", tmp_path / source, tmp_path / target).returncode == 0
    assert kvtwist("restore", tmp_path / "third", tmp_path / "restored").returncode == 0
    for name in ("second", "restored"):
        with running(tmp_path / name, "--profile", "lsfr") as server:
            assert ask(server.address, "GET", "/kv/a").body == b"1"


def archive_of(directory: Path) -> bytes:
    """What the admin site sends, asked for by hand."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(directory / "admin.sock"))
        connection.sendall(b"GET /backup HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"Content-Length: {len(body)}".encode() in head
    return body


def test_an_archive_is_restored_and_a_part_of_one_is_not(tmp_path: Path) -> None:
    with running(tmp_path / "data", *BUSY) as server, Writer(server) as writer:
        writer.wait_for(300)
        archive = archive_of(tmp_path / "data")
    (tmp_path / "whole.tar").write_bytes(archive)
    assert kvtwist("restore", tmp_path / "whole.tar", tmp_path / "whole").returncode == 0
    assert len(numbers(tmp_path / "whole")) >= 300
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        starts = [member.offset for member in tar]
    # Cut at the borders of files it is an archive still, and may even be a store.
    for length in (0, 100, *starts[1:3], starts[-2], starts[-1], starts[-1] + 100, len(archive) // 2):
        (tmp_path / "part.tar").write_bytes(archive[:length])
        process = kvtwist("restore", tmp_path / "part.tar", tmp_path / "part")
        assert process.returncode == 1, (length, process)
    flipped = bytearray(archive)
    flipped[starts[1] + 600] ^= 1
    (tmp_path / "flipped.tar").write_bytes(flipped)
    assert kvtwist("restore", tmp_path / "flipped.tar", tmp_path / "part").returncode == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("part") and path.is_dir()]


def test_a_server_that_dies_while_it_sends_leaves_no_backup(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        for number in range(8):
            ask(server.address, "PUT", f"/kv/{number}", b"x" * 4_000_000)
        listener = socket.create_server(("127.0.0.1", 0))
        body = archive_of(tmp_path / "data")

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nKvtwist-Revision: 8\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    process = kvtwist("backup", f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path / "copy")
    thread.join(PATIENCE)
    listener.close()
    assert process.returncode == 4, process
    assert re.search(b"closed the connection|incomplete backup", process.stderr)
    assert not list(tmp_path.glob("copy*"))


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/a", b"1")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "empty").mkdir()
    for target in ("file", "full", "data"):
        for command in ("backup", "restore"):
            process = kvtwist(command, tmp_path / "data", tmp_path / target)
            assert process.returncode == 4
            assert b"already exists" in process.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert kvtwist("restore", tmp_path / "data", tmp_path / "empty").returncode == 0


def test_there_is_nothing_to_copy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("missing", "empty"):
        process = kvtwist("backup", tmp_path / source, tmp_path / "copy")
        assert process.returncode == 4, process
    assert kvtwist("backup", "http://127.0.0.1:1", tmp_path / "copy").returncode == 4
    assert kvtwist("backup", "http://127.0.0.1:port", tmp_path / "copy").returncode == 4
    with running(tmp_path / "memory", "--store", "memory", "--admin", "tcp:0:interface=127.0.0.1") as server:
        address = server.wait_for(r"Admin site listening on (\S+)")[1]
        process = kvtwist("backup", f"http://{address}", tmp_path / "copy")
        assert process.returncode == 4
        assert b"in memory" in process.stderr
    assert not list(tmp_path.glob("copy*"))


def test_a_damaged_store_has_no_backup(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/a", b"1")
        server.stop()
    [page] = (tmp_path / "data" / "pages").iterdir()
    page.write_bytes(page.read_bytes()[:-1])
    process = kvtwist("backup", tmp_path / "data", tmp_path / "copy")
    assert process.returncode == 1
    assert page.name.encode() in process.stderr
    assert not list(tmp_path.glob("copy*"))
