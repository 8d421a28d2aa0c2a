"""
The console: a page to look at the store and change it, and what the page needs beside the native API. `--ui`.

    GET    /ui/               the page; its files are in kvtwist/console/
    GET    /ui/api/figures    what is served, its limits, and every metric as JSON
    GET    /ui/api/staged     a page of the changes that wait for `POST /commit`: ?after= &limit=
    GET    /ui/api/backup     a tar archive of the store as it is now, as a download

It is the last in line, so no profile loses a key to it. A client of these routes can read all data. The page may load
nothing from elsewhere, run no script but its own, and cannot make HTML of text (`require-trusted-types-for`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zlib import crc32

import msgspec
from klein import Response
from msgspec.structs import replace
from werkzeug.exceptions import NotFound
from zope.interface import implementer

from kvtwist import __version__
from kvtwist.interfaces import IBackups, IProfile, IStore
from kvtwist.model import STAGED, Record
from kvtwist.profiles._app import ProfileApp, answer_errors, query, whole_number
from kvtwist.profiles._backup import answer_backup
from kvtwist.profiles._conditions import answer_record
from kvtwist.profiles._items import elements, page_of
from kvtwist.profiles._listing import answer, only
from kvtwist.profiles._openapi import PROBLEM
from kvtwist.profiles._settings import Settings
from kvtwist.profiles._transactions import DEFAULT_LIMIT, MAX_LIMIT, range_of
from kvtwist.profiles.native import problem
from kvtwist.validators import Headers

FILES = Path(__file__).parents[1] / "console"
PAGE = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
SAFE: Headers = MappingProxyType(
    {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)
DOWNLOAD = {"Content-Disposition": 'attachment; filename="kvtwist.tar"'}
FRESH: Headers = MappingProxyType({"Content-Type": "application/json", "Cache-Control": "no-store"})


@implementer(IProfile)
class Console:
    """
    The routes.

    :param backups: makes backups of the same store.
    :param facts: what the page says of the server, and does not change: names and values of JSON.
    """

    name = "console"
    urgent: frozenset[str] = frozenset()
    max_body = 0
    app = ProfileApp()

    def __init__(self, store: IStore, backups: IBackups, settings: Settings, facts: Mapping[str, object]) -> None:
        self._store = store
        self._backups = backups
        self._settings = settings
        self._facts = facts
        self._files = {path.name: _file(path) for path in FILES.iterdir() if path.suffix in MEDIA_TYPES}

    @app.route("/ui", methods=["GET"], conditional=True)
    def page(self, request: Any) -> Response:
        """The page."""
        return self.file(request, PAGE)

    @app.route("/ui/", methods=["GET"], conditional=True)
    def page_of_directory(self, request: Any) -> Response:
        """The page."""
        return self.file(request, PAGE)

    @app.route("/ui/<name>", methods=["GET"], conditional=True)
    def file(self, request: Any, name: str) -> Response:
        """A file of the page."""
        file = self._files.get(name)
        if file is None:
            raise NotFound("the console has no such file")
        return answer_record(request, file, _file_headers(file))

    @app.route("/ui/api/figures", methods=["GET"])
    def figures(self, request: Any) -> Response:
        """All that the dashboard draws; counts are since the start, so the page computes rates."""
        said = {
            "version": __version__,
            "profiles": self._settings.profiles,
            **self._facts,
            "uptime": self._settings.uptime(),
            "now": self._store.now_ms(),
            "samples": list(self._settings.samples()),
        }
        return Response(200, FRESH, msgspec.json.encode(said))

    @app.route("/ui/api/staged", methods=["GET"])
    async def staged(self, request: Any) -> Response | None:
        """A page of the staged changes, as in a listing. The media type of a deletion says that it is one."""
        after, limit_text = query(request, "after", "limit")
        limit = DEFAULT_LIMIT if limit_text is None else whole_number("limit", limit_text, MAX_LIMIT)
        asked = replace(range_of("", after, None, limit, reverse=False), keyspace=STAGED)
        _, items, following = await page_of(self._store, asked)
        frame = b'{"changes":%d,"items":[' % self._store.usage(STAGED).records, b",", b'],"next":%b}' % following
        return await answer(request, frame, only(items), partial(elements, keys_only=False))

    @app.route("/ui/api/backup", methods=["GET"])
    async def backup(self, request: Any) -> Response | None:
        """A copy of the store at one revision, made while the store is used."""
        return await answer_backup(request, self._backups, DOWNLOAD)


def _file(path: Path) -> Record:
    content = path.read_bytes()
    return Record(content, MEDIA_TYPES[path.suffix], crc32(content), int(path.stat().st_mtime * 1000))


def _file_headers(file: Record) -> Headers:
    return {**SAFE, "Content-Type": file.media_type}


answer_errors(Console.app, PROBLEM, problem)
