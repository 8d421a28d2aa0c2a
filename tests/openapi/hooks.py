"""
What schemathesis cannot know of the native API. Its command loads this module (`schemathesis.toml`).

Everything that is kept from it is named here or there, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import schemathesis
from schemathesis.core.failures import MalformedJson

MAX_KEY: Final = 100
"""The `--max-key` of the server, in bytes."""
WAITS: Final = {"Wait", "AfterRevision"}
"""Parameters of requests that take seconds."""
TAGS: Final = ['"1"', '"17"', 'W/"17"', '"1", "17"', "*"]
"""Instead of a pattern, from which its coverage phase cannot draw for these two headers: it sends `0`."""
LINES: Final = "application/x-ndjson"
LONG: Final = 3600
"""Seconds."""


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Prepare the document."""
    for name in ("IfMatch", "IfNoneMatch"):
        raw_schema["components"]["parameters"][name]["schema"] = {"type": "string", "enum": TAGS}
    for operation in raw_schema["paths"]["/v1/kv"].values():
        lines = operation["responses"]["200"]["content"].get(LINES)
        if lines is not None:
            lines["schema"] = {"type": "array", "items": lines["schema"]}
    for operation in raw_schema["paths"]["/v1/kv/{key}"].values():
        operation["parameters"] = [
            parameter for parameter in operation["parameters"] if parameter["$ref"].rpartition("/")[2] not in WAITS
        ]


@schemathesis.hook
def filter_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> bool:
    """Drop keys that have few enough characters and too many bytes: JSON Schema cannot count bytes."""
    return all(_is_clear(unquote(str(value))) for value in (path_parameters or {}).values())


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Drop transactions with such keys."""
    return context.operation.path != "/v1/txn" or all(map(_is_clear, _keys(body)))


def _is_clear(key: str) -> bool:
    return len(key) > MAX_KEY or len(key.encode("utf-8", "surrogatepass")) <= MAX_KEY


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for element in value:
            yield from _keys(element)
    elif isinstance(value, dict):
        for name, member in value.items():
            if name == "key" and isinstance(member, str):
                yield member
            elif name != "json":
                yield from _keys(member)


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Let no record expire during the run."""
    if query and isinstance(query.get("ttl"), int) and 0 < query["ttl"] < LONG:
        return {**query, "ttl": LONG}
    return query


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Ask for some listings as lines."""
    query = case.query or {}
    if context.operation.path == "/v1/kv" and case.method == "GET" and "limit" not in query and len(query) % 2:
        case.headers = {**(case.headers or {}), "Accept": LINES}
    return case


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Put ranges before writes, as JSON Schema cannot say, and let no record expire during the run."""
    if context.operation.path != "/v1/txn" or not isinstance(body, dict):
        return body
    body = _with_integers(body)
    for name in ("then", "else"):
        branch = body.get(name)
        if isinstance(branch, list) and all(isinstance(step, dict) for step in branch):
            body[name] = sorted((_lasting(step) for step in branch), key=lambda step: "range" not in step)
    return body


def _with_integers(value: Any) -> Any:
    """Without numbers such as `17.0`, which JSON Schema takes for an integer, and the server does not."""
    if isinstance(value, dict):
        return {name: member if name == "json" else _with_integers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_integers(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _lasting(step: dict[str, Any]) -> dict[str, Any]:
    put = step.get("put")
    if isinstance(put, dict) and isinstance(put.get("ttl"), int) and 0 < put["ttl"] < LONG:
        return {**step, "put": {**put, "ttl": LONG}}
    return step


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Accept that a part of a JSON value (206) is not JSON."""
    return not (response.status_code == 206 and isinstance(failure, MalformedJson))


@schemathesis.deserializer(LINES)
def read_lines(context: Any, response: Any) -> Any:
    """All lines of a listing; the document describes one of them."""
    return [json.loads(line) for line in response.content.splitlines()]
