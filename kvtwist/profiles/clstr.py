"""
`clstr`: `lsfr` with `GET /health`, and a log line for each request.

    GET    /health      200 from when the server listens; 503 when the store has become read-only

Spec 004.
"""

from __future__ import annotations

from typing import Any, cast

from klein import Response
from twisted.logger import Logger

from kvtwist.model import StoreUnavailable
from kvtwist.profiles._app import ProfileApp
from kvtwist.profiles.lsfr import OK, Lsfr

log = Logger(namespace="kvtwist.clstr")

_SHOWN = 64


class Clstr(Lsfr):
    """The routes of spec 004."""

    name = "clstr"
    urgent = frozenset({"/health"})
    default_port = 8080
    app = cast(ProfileApp, Lsfr.app).extended()

    @app.route("/health", methods=["GET"])
    def health(self, request: Any) -> Response:
        """Whether the store can be written to. It is open before the server listens, but a disk may fail later."""
        if self._store.figures().read_only:
            raise StoreUnavailable("the store is read-only until it is started again")
        return OK

    def note(self, event: str, key: bytes = b"", value: bytes = b"") -> None:
        """Log the outcome of a request, in the words of the spec's example."""
        log.info(event, key=key.decode(), value=_shown(value))


def _shown(value: bytes) -> str:
    """The beginning of a value, on one line."""
    text = value[:_SHOWN].decode(errors="ignore")
    return (text if text.isprintable() else ascii(text)) + ("..." if len(value) > _SHOWN else "")
