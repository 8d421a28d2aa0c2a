"""Asks a server for some of what it should hold, over one connection, and compares every byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http.client import HTTPConnection, HTTPException

from bench.serving import data
from bench.serving.speech import Ask, Speech, filled
from bench.serving.wrk import WrongAnswer

_TIMEOUT = 30.0


def read_back(
    address: tuple[str, int], speech: Speech, indexes: Iterable[int], value: Callable[[int], bytes] = data.value
) -> None:
    """:raises WrongAnswer: one of them is missing, or has another value."""
    for index in indexes:
        key, held = data.key(index), value(index)
        status, body = _asked(address, speech.get, key, held)
        expected = filled(speech.answer, key, held)
        if status != 200 or (body != expected if speech.exact else expected not in body):
            raise WrongAnswer(f"{key.decode()}: {status} {body[:80]!r}, and not {expected[:80]!r}")


def put(address: tuple[str, int], asks: Iterable[Ask], index: int, value: Callable[[int], bytes] = data.value) -> None:
    """Write a key; :raises WrongAnswer: it is not taken."""
    for ask in asks:
        status, body = _asked(address, ask, data.key(index), value(index))
        if status >= 300:
            raise WrongAnswer(f"{ask.method} {ask.path}: {status} {body[:80]!r}")


def _asked(address: tuple[str, int], ask: Ask, key: bytes, value: bytes) -> tuple[int, bytes]:
    connection = HTTPConnection(*address, timeout=_TIMEOUT)
    method, path, body = ask.filled(key, value)
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException) as error:
        raise WrongAnswer(f"{method} {path}: {type(error).__name__} {error}") from None
    finally:
        connection.close()
