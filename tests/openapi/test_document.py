"""The OpenAPI document has every route of the native profile, and every status that it names occurs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from twisted.internet.defer import Deferred, fail

from kvtwist.interfaces import IStore
from kvtwist.model import NoRoom, StoreUnavailable
from kvtwist.profiles import Settings
from kvtwist.profiles._openapi import document
from kvtwist.profiles.native import Native
from tests.support.answer import Answer
from tests.support.fronts import Fronted, responses, without_threads
from tests.support.profiles import MAX_VALUE
from tests.support.wire import head, sized

DOCUMENT: Final = document(Settings(max_value=MAX_VALUE))
ENDLESS: Final = ("watch", 200)
"""An operation and a status whose response has no end: tests/http tests it."""
SCHEMAS_ONLY_FOR_READERS: Final = {"Change"}
"""Of events, which have no place in OpenAPI 3.1."""

Call = tuple[str, ...]
"""Method, target, body, header lines."""
PUT: Final = ("PUT", "/v1/kv/a", "1")
ELSEWHERE: Final = "Origin: http://elsewhere.example"
CAUSES: Final[dict[str, dict[int, list[Call]]]] = {
    "getKey": {
        200: [PUT, ("GET", "/v1/kv/a")],
        206: [PUT, ("GET", "/v1/kv/a", "", "Range: bytes=0-0")],
        304: [PUT, ("GET", "/v1/kv/a", "", "If-None-Match: *")],
        400: [("GET", "/v1/kv/%ff")],
        404: [("GET", "/v1/kv/a")],
        412: [PUT, ("GET", "/v1/kv/a", "", 'If-Match: "0"')],
        416: [PUT, ("GET", "/v1/kv/a", "", "Range: bytes=9-")],
    },
    "putKey": {
        201: [PUT],
        204: [PUT, PUT],
        200: [PUT, ("PUT", "/v1/kv/a?return=previous", "2")],
        400: [("PUT", "/v1/kv/a?ttl=0", "1")],
        403: [("PUT", "/v1/kv/a", "1", ELSEWHERE)],
        412: [("PUT", "/v1/kv/a", "1", "If-Match: *")],
        413: [("PUT", "/v1/kv/a", "v" * (MAX_VALUE + 1))],
    },
    "deleteKey": {
        204: [PUT, ("DELETE", "/v1/kv/a")],
        400: [("DELETE", "/v1/kv/%ff")],
        403: [("DELETE", "/v1/kv/a", "", ELSEWHERE)],
        404: [("DELETE", "/v1/kv/a")],
        412: [PUT, ("DELETE", "/v1/kv/a", "", 'If-Match: "0"')],
    },
    "listKeys": {200: [PUT, ("GET", "/v1/kv")], 400: [("GET", "/v1/kv?limit=0")]},
    "deleteKeys": {
        200: [("DELETE", "/v1/kv?all=true")],
        400: [("DELETE", "/v1/kv")],
        403: [("DELETE", "/v1/kv?all=true", "", ELSEWHERE)],
    },
    "transact": {
        200: [("POST", "/v1/txn", '{"then":[{"put":{"key":"a","value":"1"}}]}')],
        400: [("POST", "/v1/txn", "[]")],
        403: [("POST", "/v1/txn", "{}", ELSEWHERE)],
        413: [("POST", "/v1/txn", '{"then":[' + "{}," * 10_000 + "{}]}")],
    },
    "watch": {
        200: [("GET", "/v1/watch")],
        400: [("GET", "/v1/watch?after=x")],
        410: [PUT, ("GET", "/v1/watch?after=2")],
    },
    "status": {200: [("GET", "/v1/status")], 400: [("GET", "/v1/status", "", "If-Match: *")]},
    "welcome": {200: [("GET", "/")], 400: [("GET", "/", "", "If-Match: *")]},
    "describe": {200: [("GET", "/v1/openapi.json")], 400: [("GET", "/v1/openapi.json", "", "If-Match: *")]},
    "describeAtRoot": {200: [("GET", "/openapi.json")], 400: [("GET", "/openapi.json", "", "If-Match: *")]},
}
"""By operation and status, the requests of which the last is answered with it. 503 and 507 come from the store."""


class FailingStore:
    """:param error: how every transaction and read fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def _fail(self, *arguments: Any, **named: Any) -> Deferred[Any]:
        return fail(self._error)

    get = scan = transact = changes = _fail

    def now_ms(self) -> int:
        """See `IStore`."""
        return 0


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of each operation."""
    for path, described in DOCUMENT["paths"].items():
        for method, operation in described.items():
            yield path, method.upper(), operation


def statuses() -> Iterator[tuple[str, int]]:
    for _, _, operation in operations():
        yield from ((operation["operationId"], int(status)) for status in operation["responses"])


def described(operation_id: str, status: int) -> dict[str, Any]:
    """The description of a response."""
    [found] = [operation for _, _, operation in operations() if operation["operationId"] == operation_id]
    response: dict[str, Any] = found["responses"][str(status)]
    name = response.get("$ref", "").rpartition("/")[2]
    return DOCUMENT["components"]["responses"][name] if name else response


def answered(front: Fronted, calls: list[Call]) -> Answer:
    """The answer to the last of some requests on one connection."""
    peer = front.connect()
    for method, target, *more in calls:
        body, headers = "".join(more[:1]), more[1:]
        peer.send(sized(method, target, body.encode(), *headers) if body else head(method, target, *headers))
    return responses(peer.received, [call[0] for call in calls])[-1]


def causing(operation_id: str, status: int) -> tuple[Fronted, list[Call]]:
    """A front and the requests that make it answer with a status."""
    causes = CAUSES[operation_id.removesuffix("Head")]
    front = Fronted(["native"])
    if status in (503, 507):
        error = NoRoom("full") if status == 507 else StoreUnavailable("closing")
        # Without request memory, even what needs no store is 503; the status route is answered all the same.
        memory = 2**27 if status == 507 else 1
        native = Native(FailingStore(error), Settings(max_value=MAX_VALUE))  # type: ignore[arg-type]
        front = Fronted([native], max_in_flight=memory)
        *_, last = next(iter(causes.values()))
        calls = [last]
    else:
        calls = causes[status]
    if operation_id.endswith("Head"):
        calls = [*calls[:-1], ("HEAD", *calls[-1][1:])]
    return front, calls


def test_every_route_is_described_and_no_other() -> None:
    routes = set()
    for rule in Native.app.url_map.iter_rules():
        path = re.sub("<(?:.*:)?(.*)>", r"{\1}", rule.rule)
        routes |= {(path, method) for method in rule.methods or ()}
    assert routes == {(path, method) for path, method, _ in operations()}


@pytest.mark.parametrize(("operation_id", "status"), [found for found in statuses() if found != ENDLESS])
def test_every_status_occurs(operation_id: str, status: int) -> None:
    front, calls = causing(operation_id, status)
    with without_threads():
        answer = answered(front, calls)
    assert answer.status == status
    response = described(operation_id, status)
    content = response.get("content")
    if content is None:
        assert answer.body == b""
    else:
        assert answer.header("content-type") in content or "*/*" in content
    if status >= 400:
        for name in response.get("headers", {}):
            assert answer.header(name.lower()) is not None, name


def test_every_cause_is_described() -> None:
    described = set(statuses())
    assert {(name, status) for name, causes in CAUSES.items() for status in causes} <= described


def test_every_component_is_used() -> None:
    used = set(re.findall(r"'#/components/(\w+)/([\w-]+)'", repr(DOCUMENT)))
    there = {(kind, name) for kind, components in DOCUMENT["components"].items() for name in components}
    assert there - used == {("schemas", name) for name in SCHEMAS_ONLY_FOR_READERS}


def test_it_has_the_limits_of_the_server() -> None:
    front = Fronted([Native(IStore, Settings(max_key=77, max_operations=88))])  # type: ignore[arg-type]
    for target in ("/openapi.json", "/v1/openapi.json"):
        answer = answered(front, [("GET", target)])
        assert answer.json() == document(Settings(max_key=77, max_operations=88))
        assert answer.json()["components"]["schemas"]["Key"]["maxLength"] == 77
        assert "88" in answer.json()["components"]["schemas"]["Transaction"]["description"]


def test_it_is_valid() -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.validate()
    assert schema.specification.version == DOCUMENT["openapi"]
