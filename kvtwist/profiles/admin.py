"""
The admin site: backup, metrics and health of a running server, on a port or socket of its own.

    GET    /backup      200 with a tar archive of the store as it is now; unpacked, it is a working directory
    GET    /metrics     200, for Prometheus
    GET    /health      200 {"status":"ok"}, 503 when nothing can be written until a restart

Errors are JSON. A client of the admin site can read all data. By default it listens on a socket in the working
directory, which only the owner of the process may open.
"""

from __future__ import annotations

from typing import Any

from klein import Response
from prometheus_client import CONTENT_TYPE_LATEST
from zope.interface import implementer

from kvtwist.interfaces import IBackups, IProfile, IStore
from kvtwist.model import JSON, StoreUnavailable
from kvtwist.profiles._app import ProfileApp, answer_errors
from kvtwist.profiles._backup import answer_backup
from kvtwist.profiles._reply import json_error, json_reply
from kvtwist.profiles._settings import Settings


@implementer(IProfile)
class Admin:
    """:param backups: makes backups of the same store."""

    name = "admin"
    urgent = frozenset({"/health", "/metrics"})
    max_body = 0
    app = ProfileApp()

    def __init__(self, store: IStore, backups: IBackups, settings: Settings) -> None:
        self._store = store
        self._backups = backups
        self._settings = settings

    @app.route("/backup", methods=["GET"])
    async def backup(self, request: Any) -> Response | None:
        """A copy of the store at one revision, made while the store is used."""
        return await answer_backup(request, self._backups)

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: Any) -> Response:
        """The metrics, in Prometheus' text format."""
        return Response(200, {"Content-Type": CONTENT_TYPE_LATEST}, self._settings.scrape())

    @app.route("/health", methods=["GET"])
    def health(self, request: Any) -> Response:
        """Whether the store can be written to."""
        if self._store.figures().read_only:
            raise StoreUnavailable("the store is read-only until it is started again")
        return json_reply(200, b'{"status":"ok"}')


answer_errors(Admin.app, JSON, json_error)
