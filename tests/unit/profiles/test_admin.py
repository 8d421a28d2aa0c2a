"""The admin site: what each of its routes answers, and to whom."""

from __future__ import annotations

import errno
import io
import tarfile

from kvtwist.profiles import Settings
from kvtwist.profiles.admin import Admin
from tests.support.answer import JSON, Answer
from tests.support.engine import EngineCase, failure_of, put
from tests.support.fronts import Fronted, memory_store, responses
from tests.support.net import Net


class AdminTests(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.site = Fronted([Admin(self.engine.store, self.engine.store, Settings(scrape=lambda: b"figures\n"))])

    def ask(self, method: str, path: str, site: Fronted | None = None, length: int = 0) -> Answer:
        request = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n" + "x" * length
        peer = (site or self.site).ask(request.encode())
        peer.net.settle()
        [answer] = responses(peer.received, [method])
        return answer

    def test_a_backup_is_a_tar_archive_of_one_revision(self) -> None:
        self.engine.put(b"a", b"1")
        answer = self.ask("GET", "/backup")
        self.assertEqual((answer.status, answer.header("content-type")), (200, "application/x-tar"))
        self.assertEqual(answer.header("kvtwist-revision"), "1")
        self.assertEqual(answer.header("content-length"), str(len(answer.body)))
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            self.assertEqual(tar.getnames()[-1], "backup.json")
        head = self.ask("HEAD", "/backup")
        self.assertEqual((head.headers, head.body), (answer.headers, b""))

    def test_a_backup_that_was_answered_keeps_no_file(self) -> None:
        for method in ("GET", "HEAD"):
            self.engine.put(b"a", method.encode())
            self.engine.checkpoint()
            self.assertEqual(self.ask(method, "/backup").status, 200)
        before = self.engine.files("manifest-")
        self.engine.put(b"a", b"3")
        self.engine.checkpoint()
        self.assertEqual(len(self.engine.files("manifest-")), 1)
        self.assertNotEqual(self.engine.files("manifest-"), before)

    def test_there_is_no_backup_of_a_store_in_memory(self) -> None:
        store = memory_store(Net())
        answer = self.ask("GET", "/backup", Fronted([Admin(store, store, Settings())]))
        self.assertEqual((answer.status, answer.header("content-type")), (404, JSON))
        self.assertEqual(answer.json(), {"error": "the store is in memory"})

    def test_metrics_are_what_is_scraped(self) -> None:
        answer = self.ask("GET", "/metrics")
        self.assertEqual((answer.status, answer.body), (200, b"figures\n"))
        self.assertIn("text/plain; version=", answer.header("content-type") or "")

    def test_health_is_whether_something_can_be_written(self) -> None:
        answer = self.ask("GET", "/health")
        self.assertEqual((answer.status, answer.header("content-type")), (200, JSON))
        self.assertEqual(answer.json(), {"status": "ok"})
        self.engine.disk.fail("sync", errno.EIO, "journal-")  # type: ignore[attr-defined]
        failure_of(self.engine.store.transact([], [put(b"a", b"1")]))
        answer = self.ask("GET", "/health")
        self.assertEqual((answer.status, answer.header("retry-after")), (503, "1"))
        self.assertIn("read-only", answer.json()["error"])

    def test_no_body_is_read(self) -> None:
        for length, connection in ((0, None), (1, "close")):
            self.assertEqual(self.ask("GET", "/health", length=length).header("connection"), connection)
