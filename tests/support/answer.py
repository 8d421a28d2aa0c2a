"""One response, whichever client received it, and what every response owes to HTTP and to us."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import h11
from attrs import frozen

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
OCTETS = "application/octet-stream"
PROBLEM = "application/problem+json"


@frozen
class Answer:
    """
    A complete response.

    :ivar headers: (name, value) in their order, names in lower case.
    :ivar content_length: as the header said; None without one.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    content_length: int | None

    @classmethod
    def parsed(cls, head: h11.Response | h11.InformationalResponse, body: bytes) -> Answer:
        """Of what h11 has read."""
        headers = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers)
        lengths = [int(value) for name, value in headers if name == "content-length"]
        return cls(head.status_code, headers, body, lengths[0] if lengths else None)

    def header(self, name: str) -> str | None:
        """The value of a header that may not be repeated."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """The body, which must be JSON to the letter of RFC 8259: UTF-8 without BOM, and no NaN."""
        return json.loads(self.body.decode("utf-8"), parse_constant=_no_number)

    def allow(self) -> set[str]:
        """The methods that a 405 offers."""
        offered = self.header("allow")
        assert offered is not None, "a 405 without Allow"
        return {method.strip() for method in offered.split(",")}


def _no_number(word: str) -> NoReturn:
    raise AssertionError(f"{word} is not JSON")


def checked(answer: Answer) -> Answer:
    """What holds for every answer: it is no redirect and no 500, and 204 and 304 have neither body nor length."""
    assert not 300 <= answer.status < 400 or answer.status == 304, f"a redirect: {answer}"
    assert answer.status != 500, f"an internal error: {answer}"
    if answer.status in (204, 304):
        assert answer.body == b""
        assert answer.content_length is None, "RFC 9110, 8.6: no Content-Length without a body"
    return answer


def is_json_error(answer: Answer, status: int) -> None:
    """The error form of `transactional`, `history` and `keys`."""
    assert answer.status == status, answer
    assert answer.header("content-type") == JSON
    document = answer.json()
    assert list(document) == ["error"]
    assert isinstance(document["error"], str) and document["error"]


def is_text(answer: Answer, status: int, text: str) -> None:
    """A body of `lsfr` and `clstr`, to the byte."""
    assert (answer.status, answer.body) == (status, text.encode()), answer
    assert answer.header("content-type") == TEXT


def is_bare(answer: Answer, status: int) -> None:
    """An answer whose length says that there is no body."""
    assert (answer.status, answer.body, answer.content_length) == (status, b"", 0), answer
