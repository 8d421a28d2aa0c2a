"""`kvtwist backup` from a server: the server closes the connection; an answer that is not a backup is one line."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

from tests.support.engine import TestCase
from tests.support.server import PATIENCE
from tests.support.tools import contents_of, eventful, kvtwist
from tests.unit.cli.test_bad_input import ending, member, packed

OK = b"HTTP/1.1 200 OK\r\n"
HEAD = OK + b"Kvtwist-Revision: 31\r\n"


class ServerCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.copy = self.path / "copy"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def backup(self, answer: Callable[[socket.socket], object]) -> tuple[int, str]:
        """Back up from a server with this answer; returns exit code and standard error."""

        def serve() -> None:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                self.request = connection.recv(65536)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            result = kvtwist("backup", self.url, self.copy)
        finally:
            thread.join(PATIENCE)
        return result.exit_code, result.stderr


class CloseTests(ServerCase):
    def test_the_server_closes_first(self) -> None:
        store = eventful(self.path / "store").end()
        kvtwist("backup", store, self.path / "files")
        files = sorted(path for path in (self.path / "files").rglob("*") if path.is_file())
        members = [member(str(path.relative_to(self.path / "files")), path.read_bytes()) for path in files]
        archive = packed([*members, ending(len(members))])
        early: list[object] = []

        def answer(connection: socket.socket) -> None:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(archive) + archive)
            while not self.copy.exists():  # then it has read everything, and verified it
                early.extend(select.select([connection], [], [], 0.01)[0])
                if early:
                    return

        self.assertEqual(self.backup(answer), (0, ""))
        self.assertEqual(early, [])
        self.assertIn(b"Connection: close", self.request)
        self.assertEqual(contents_of(self.copy), contents_of(store))


class BadAnswerTests(ServerCase):
    def test_an_answer_without_a_backup_is_one_line(self) -> None:
        for answer in (
            b"",
            b"\0\xff\r\n\r\n",
            OK + b"\r\n",
            OK + b"Content-Length: 0\r\n\r\n",
            HEAD + b"\r\n",
            HEAD + b"Content-Length: many\r\n\r\n",
            HEAD + b"Content-Length: -5\r\n\r\n",
            HEAD + b"Content-Length: 0\r\n\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\na\nb\x1b[1m\xffc\r\n",
            OK + b"x" * 100_000,
            OK + b"x: y\r\n" * 1000,
        ):
            with self.subTest(answer=answer[:100]):
                status, said = self.backup(lambda connection: connection.sendall(answer))  # noqa: B023
                self.assertIn(status, (1, 4))
                self.assertEqual(said.count("\n"), 1, said)
                self.assertTrue(said.startswith("kvtwist: ") and said.strip().isprintable(), said)
                self.assertFalse(any(path.name.startswith("copy") for path in self.path.iterdir()))

    def test_an_answer_that_ends_early_is_not_damage(self) -> None:
        for size in (100, 600, 10**20):
            status, said = self.backup(
                lambda connection: connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(99))  # noqa: B023
            )
            self.assertEqual((status, said.count("\n")), (4, 1))
            self.assertIn(f"closed the connection {size - 99} byte", said)

    def test_a_bad_url_is_one_line(self) -> None:
        for url in ("http://", "http://[", "http://a..b/", "http://127.0.0.1:99999", "http://x:1/\udcff \n"):
            result = kvtwist("backup", url, self.copy)
            self.assertEqual((result.exit_code, result.stderr.count("\n")), (4, 1), result.stderr)
