"""Random sequences of requests are answered as a model of a few lines would answer them."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from attrs import Factory, define
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.support.wire import Connection

JSON_TEXTS: Final = st.recursive(
    st.sampled_from(
        ["null", "true", "0", "-0.0", "1.0", "1e400", "123456789012345678901234567890", '"é\\u00e9"', '""']
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2).map(
            lambda members: "{" + ",".join(f'"{name}": {text}' for name, text in members.items()) + "}"
        )
    ),
    max_leaves=4,
)

_examples = itertools.count(1)


# --- transactional ---


@define
class Transactional:
    """A server of that profile, as the spec tells it."""

    data: dict[str, str] = Factory(dict)
    staged: dict[str, str | None] = Factory(dict)

    def set(self, key: str, value: str) -> tuple[int, str]:
        exists = self.staged.get(key, self.data.get(key)) is not None
        self.staged[key] = value
        return 200 if exists else 201, f'{{"{key}":{value}}}'

    def delete(self, key: str) -> tuple[int, str]:
        self.staged[key] = None
        return 200, f'"{key}"'

    def commit(self) -> tuple[int, str]:
        merged = {**self.data, **self.staged}
        self.data = {key: value for key, value in merged.items() if value is not None}
        self.staged = {}
        return 204, ""

    def get(self, key: str) -> tuple[int, str | None]:
        return (200, f'{{"{key}":{self.data[key]}}}') if key in self.data else (404, None)


NAMES: Final = st.sampled_from(["a", "b", "a/b", "set"])
STAGING: Final = st.lists(
    st.tuples(st.just("set"), NAMES, JSON_TEXTS)
    | st.tuples(st.just("delete"), NAMES)
    | st.tuples(st.just("commit"))
    | st.tuples(st.just("get"), NAMES),
    max_size=25,
)


@given(steps=STAGING)
def test_transactional_answers_like_its_model(serve: StartServer, steps: list[tuple[str, ...]]) -> None:
    server = serve("--profile", "transactional", "--store", "memory")
    model, prefix = Transactional(), f"model{next(_examples)}."
    with Connection(server.address) as connection:
        for step, *arguments in [*steps, ("commit",), *(("get", name) for name in ("a", "b", "a/b", "set"))]:
            match step, arguments:
                case "set", [name, value]:
                    expected: tuple[int, str | None] = model.set(prefix + name, value)
                    answer = connection.ask("POST", "/set", f'{{"{prefix}{name}": {value}}}'.encode())
                case "delete", [name]:
                    expected = model.delete(prefix + name)
                    answer = connection.ask("DELETE", "/set", f'"{prefix}{name}"'.encode())
                case "get", [name]:
                    expected = model.get(prefix + name)
                    answer = connection.ask("GET", "/" + quote(prefix + name, safe=""))
                case _:
                    expected = model.commit()
                    answer = connection.ask("POST", "/commit")
            status, body = expected
            assert answer.status == status
            assert body is None or answer.body.decode() == body


# --- keys ---


@define
class Keys:
    """A server of that profile, as the spec tells it."""

    data: dict[str, str] = Factory(dict)

    def put(self, pairs: dict[str, str]) -> int:
        if not pairs:
            return 400
        status = 200 if set(pairs) <= set(self.data) else 201
        self.data.update(pairs)
        return status

    def delete(self, key: str) -> int:
        return 404 if self.data.pop(key, None) is None else 204

    def listing(self, pattern: str | None, after: str | None) -> list[tuple[str, str]]:
        regex = ".*" if pattern is None else ".*".join(map(re.escape, pattern.split("$")))
        return [
            (key, self.data[key])
            for key in sorted(self.data, key=str.encode)
            if re.fullmatch(regex, key) and (after is None or key.encode() > after.encode())
        ]


KEYS: Final = st.text("abé/ &$", min_size=1, max_size=3)
STORING: Final = st.lists(
    st.tuples(st.just("put map"), st.dictionaries(KEYS, JSON_TEXTS, max_size=4))
    | st.tuples(st.just("put one"), KEYS, JSON_TEXTS)
    | st.tuples(st.just("put pair"), KEYS, JSON_TEXTS)
    | st.tuples(st.just("delete"), KEYS)
    | st.tuples(st.just("get"), KEYS)
    | st.tuples(st.just("clear"))
    | st.tuples(st.just("delete matching"), st.text("abé/ &$", max_size=4))
    | st.tuples(
        st.just("list"),
        st.none() | st.text("abé/ &$", max_size=4),
        st.none() | st.integers(1, 4),
        st.none() | KEYS,
    ),
    max_size=25,
)


@given(steps=STORING)
def test_keys_answers_like_its_model(serve: StartServer, steps: list[tuple[Any, ...]]) -> None:
    server = serve("--profile", "keys", "--store", "memory")
    model = Keys()
    with Connection(server.address) as connection:
        assert connection.ask("DELETE", "/keys").status == 204
        for step, *arguments in [*steps, ("list", None, None, None)]:
            match step, arguments:
                case "put map", [pairs]:
                    answer = connection.ask("PUT", "/keys", json_map(pairs))
                    assert answer.status == model.put(pairs)
                    assert answer.status == 400 or answer.json() == json.loads(json_map(pairs))
                case "put one", [key, value]:
                    answer = connection.ask("PUT", f"/keys/{quote(key, safe='')}", value.encode())
                    assert answer.status == model.put({key: value})
                    assert answer.json() == {key: json.loads(value)}
                case "put pair", [key, value]:
                    pair = f'{{"id": {json.dumps(key)}, "value": {value}}}'
                    answer = connection.ask("PUT", "/keys", pair.encode())
                    assert answer.status == model.put({key: value})
                    assert answer.json() == {key: json.loads(value)}
                case "delete", [key]:
                    answer = connection.ask("DELETE", f"/keys/{quote(key, safe='')}")
                    assert answer.status == model.delete(key)
                case "get", [key]:
                    answer = connection.ask("GET", f"/keys/{quote(key, safe='')}")
                    assert answer.status == (200 if key in model.data else 404)
                    assert answer.status == 404 or answer.body.decode() == model.data[key]
                case "delete matching", [pattern]:
                    assert connection.ask("DELETE", f"/keys?filter={quote(pattern, safe='')}").status == 204
                    for key, _ in model.listing(pattern, None):
                        model.delete(key)
                case "list", [pattern, limit, after]:
                    check_listing(connection, model, pattern, limit, after)
                case _:
                    assert connection.ask("DELETE", "/keys").status == 204
                    model.data.clear()


def check_listing(
    connection: Connection, model: Keys, pattern: str | None, limit: int | None, after: str | None
) -> None:
    """All pages of a listing, put together, are what the model lists."""
    query = {"filter": pattern, "limit": limit, "after": after}
    terms = [f"{name}={quote(str(value), safe='')}" for name, value in query.items() if value is not None]
    target: str | None = "/keys?" + "&".join(terms)
    found: list[tuple[str, Any]] = []
    while target is not None:
        answer = connection.ask("GET", target)
        assert answer.status == 200
        page = json.loads(answer.body, object_pairs_hook=list)
        assert limit is None or len(page) <= limit
        found += page
        target = _next(answer.header("link"), target)
    assert [key for key, _ in found] == [key for key, _ in model.listing(pattern, after)]
    assert json.dumps(found) == json.dumps(
        [(key, json.loads(value, object_pairs_hook=list)) for key, value in model.listing(pattern, after)]
    )


def _next(link: str | None, target: str) -> str | None:
    if link is None:
        return None
    found = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert found is not None
    parts = urlsplit(urljoin(f"http://localhost{target}", found[1]))
    return f"{parts.path}?{parts.query}"


def json_map(pairs: dict[str, str]) -> bytes:
    return ("{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in pairs.items()) + "}").encode()
