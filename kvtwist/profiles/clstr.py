"""
`clstr`: what `lsfr` is, with `GET /health`, and a log that tells what happened to each key.

    GET    /health      200 once the server can serve, which is from when it listens; 503 when it can write no more

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
        """The store is open before the server listens, so whoever can ask can be served; but a disk may fail later."""
        if self._store.figures().read_only:
            raise StoreUnavailable("the store is read-only until it is started again")
        return OK

    def note(self, event: str, key: bytes = b"", value: bytes = b"") -> None:
        """Log what became of a request, in the words of the spec's example."""
        log.info(event, key=key.decode(), value=_shown(value))


def _shown(value: bytes) -> str:
    """A value on one line, which is not all of a long one."""
    text = value[:_SHOWN].decode(errors="ignore")
    return (text if text.isprintable() else ascii(text)) + ("..." if len(value) > _SHOWN else "")
