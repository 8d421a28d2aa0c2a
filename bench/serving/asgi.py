"""The least that an HTTP server in Python can do: a dictionary behind a bare ASGI app, for uvicorn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from bench.serving import data

_HELD: Final = {f"/kv/{data.key(index).decode()}": data.value(index) for index in range(data.KEYS)}


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Awaitable[None]]
) -> None:
    """One request."""
    if scope["type"] != "http":  # uvicorn asks whether there is something to do at the start
        raise NotImplementedError
    value = _HELD.get(scope["path"])
    status, body = (404, b"key not found\n") if value is None else (200, value)
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
