"""
The least that an HTTP server in Python does: it answers GET from a dictionary.

For uvicorn as a bare ASGI app; with Klein on twisted.web by `python -m bench.dictionary PORT`. BENCH_RECORDS, in the
environment, says how many records it holds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from klein import Klein
from twisted.web.iweb import IRequest

from bench.data import Data

_RECORDS: Final = Data(int(os.environ["BENCH_RECORDS"]))
_VALUES: Final = {_RECORDS.key(index).decode(): _RECORDS.value(index) for index in range(_RECORDS.size)}
_TEXT: Final = "text/plain; charset=utf-8"


async def uvicorn_app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Awaitable[None]]
) -> None:
    """Answer one request."""
    if scope["type"] != "http":  # uvicorn's offer of start-up and shutdown events
        raise NotImplementedError
    value = _VALUES.get(scope["path"].removeprefix("/kv/"))
    status, body = (404, b"") if value is None else (200, value)
    headers = [(b"content-type", _TEXT.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


klein_app = Klein()


@klein_app.route("/kv/<key>")
def _get(request: IRequest, key: str) -> bytes:
    value = _VALUES.get(key)
    if value is None:
        request.setResponseCode(404)
    request.setHeader("Content-Type", _TEXT)
    return value or b""


if __name__ == "__main__":
    from twisted.internet import reactor
    from twisted.web.server import Site

    site: Any = Site(klein_app.resource())
    reactor.listenTCP(int(sys.argv[1]), site, interface="127.0.0.1")
    reactor.run()
