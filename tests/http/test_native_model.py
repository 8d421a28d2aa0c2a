"""Random sequences of requests to the native API are answered as a model of a few lines would answer them."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

from attrs import Factory, define, frozen
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.support.answer import Answer
from tests.support.wire import Connection, head, sized

NAMES: Final = ("a", "ab", "b", "b/", "é")
KEYS: Final = st.sampled_from(NAMES)
VALUES: Final = st.sampled_from(["", "v", "é"])
SEEN: Final = st.integers(-1, 3)
"""Which revision a condition names: the record's own (-1), or another of the last few."""


@frozen
class Stored:
    value: str
    revision: int


@define
class Native:
    """
    A server of that profile.

    :ivar revision: of the last transaction that changed something.
    """

    revision: int
    data: dict[str, Stored] = Factory(dict)

    def revision_of(self, key: str, seen: int) -> int:
        """The revision that a condition on a key names."""
        own = self.data[key].revision if key in self.data else 0
        return own if seen < 0 else max(self.revision - seen, 0)

    def holds(self, condition: dict[str, Any]) -> bool:
        stored = self.data.get(condition["key"])
        if "exists" in condition:
            return (stored is not None) is condition["exists"]
        return (0 if stored is None else stored.revision) == condition["revision"]

    def put(self, key: str, value: str) -> None:
        self.revision += 1
        self.data[key] = Stored(value, self.revision)

    def delete(self, key: str) -> None:
        self.revision += 1
        self.data.pop(key, None)

    def do(self, steps: list[dict[str, Any]]) -> list[Any]:
        """The results of a branch."""
        before, results = dict(self.data), []
        self.revision += any("put" in step or "delete" in step for step in steps)
        for step in steps:
            match step:
                case {"put": put}:
                    self.data[put["key"]] = Stored(put["value"], self.revision)
                    results.append({"revision": self.revision})
                case {"delete": delete}:
                    results.append({"deleted": self.data.pop(delete["key"], None) is not None})
                case {"get": get}:
                    stored = self.data.get(get["key"])
                    results.append(None if stored is None else item(get["key"], stored))
                case {"range": asked}:
                    results.append(listing(before, **asked))
        return results


@frozen(eq=False)
class Next:
    """The `next` of a page: its last key if there is more; after a full page perhaps also if there is none."""

    page: list[str]
    has_more: bool

    def __eq__(self, shown: object) -> bool:
        return (shown is None and not self.has_more) or (shown is not None and shown in self.page[-1:])


def item(key: str, stored: Stored) -> dict[str, Any]:
    """An item, without what the model does not know."""
    return {"key": key, "value": stored.value, "revision": stored.revision}


def listing(
    data: dict[str, Stored],
    prefix: str = "",
    after: str | None = None,
    before: str | None = None,
    limit: int = 100,
    reverse: bool = False,
) -> dict[str, Any]:
    """A page."""
    low, high = (before, after) if reverse else (after, before)
    keys = [
        key
        for key in sorted(data, key=str.encode, reverse=reverse)
        if key.startswith(prefix)
        and (low is None or low.encode() < key.encode())
        and (high is None or key.encode() < high.encode())
    ]
    page = keys[:limit]
    return {"items": [item(key, data[key]) for key in page], "next": Next(page, len(keys) > limit)}


def known(shown: Any) -> Any:
    """What the model knows of a part of an answer."""
    if isinstance(shown, dict):
        left = ("content_type", "modified", "expires")
        return {name: known(member) for name, member in shown.items() if name not in left}
    return [known(element) for element in shown] if isinstance(shown, list) else shown


RANGES: Final = st.fixed_dictionaries(
    {},
    optional={
        "prefix": st.sampled_from(["", "a", "b", "é", "x"]),
        "after": KEYS,
        "before": KEYS,
        "limit": st.integers(1, 3),
        "reverse": st.booleans(),
    },
)
READS: Final = st.fixed_dictionaries({"get": st.fixed_dictionaries({"key": KEYS})})
WRITES: Final = st.fixed_dictionaries(
    {"put": st.fixed_dictionaries({"key": KEYS, "value": VALUES})}
) | st.fixed_dictionaries({"delete": st.fixed_dictionaries({"key": KEYS})})
BRANCHES: Final = st.tuples(
    st.lists(st.fixed_dictionaries({"range": RANGES}), max_size=2), st.lists(READS | WRITES, max_size=4)
).map(lambda parts: [*parts[0], *parts[1]])
STEPS: Final = st.lists(
    st.tuples(st.just("put"), KEYS, VALUES, st.sampled_from(["", "If-Match", "If-None-Match"]), SEEN)
    | st.tuples(st.just("put if new"), KEYS, VALUES)
    | st.tuples(st.just("delete"), KEYS, st.sampled_from(["", "If-Match"]), SEEN)
    | st.tuples(st.just("get"), KEYS)
    | st.tuples(st.just("list"), RANGES)
    | st.tuples(st.just("delete many"), st.sampled_from(["a", "b", "x"]))
    | st.tuples(
        st.just("txn"), st.lists(st.tuples(KEYS, st.booleans() | SEEN.map(str)), max_size=2), BRANCHES, BRANCHES
    ),
    max_size=25,
)


class Asked:
    """A server, and the model beside it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        assert connection.ask("DELETE", "/v1/kv?all=true").status == 200
        self.model = Native(connection.ask("GET", "/v1/status").json()["revision"])

    def _ask(self, method: str, key: str, body: str | None = None, *headers: str) -> Answer:
        target = f"/v1/kv/{quote(key, safe='')}"
        request = head(method, target, *headers) if body is None else sized(method, target, body.encode(), *headers)
        self._connection.send(request)
        return self._connection.receive(method)

    def _condition(self, header: str, key: str, seen: int) -> tuple[list[str], bool]:
        """The header line, and whether it holds."""
        if not header:
            return [], True
        revision = self.model.revision_of(key, seen)
        is_that = key in self.model.data and self.model.data[key].revision == revision
        return [f'{header}: "{revision}"'], is_that is (header == "If-Match")

    def put(self, key: str, value: str, header: str, seen: int) -> None:
        self._put(key, value, *self._condition(header, key, seen))

    def put_if_new(self, key: str, value: str) -> None:
        self._put(key, value, ["If-None-Match: *"], key not in self.model.data)

    def _put(self, key: str, value: str, headers: list[str], holds: bool) -> None:
        answer = self._ask("PUT", key, value, "Content-Type: text/plain", *headers)
        assert answer.status == (412 if not holds else 204 if key in self.model.data else 201)
        if holds:
            self.model.put(key, value)
            assert answer.header("etag") == f'"{self.model.revision}"'

    def delete(self, key: str, header: str, seen: int) -> None:
        headers, holds = self._condition(header, key, seen)
        answer = self._ask("DELETE", key, None, *headers)
        assert answer.status == (404 if key not in self.model.data else 204 if holds else 412)
        if answer.status == 204:
            self.model.delete(key)

    def get(self, key: str) -> None:
        answer, stored = self._ask("GET", key), self.model.data.get(key)
        if stored is None:
            assert answer.status == 404
        else:
            expected = (200, stored.value, f'"{stored.revision}"')
            assert (answer.status, answer.body.decode(), answer.header("etag")) == expected

    def list(self, asked: dict[str, Any]) -> None:
        words = {name: json.dumps(value) if name == "reverse" else value for name, value in asked.items()}
        answer = self._connection.ask("GET", f"/v1/kv?{urlencode(words)}")
        assert answer.status == 200
        assert known(answer.json()) == {"revision": self.model.revision, **listing(self.model.data, **asked)}

    def delete_many(self, prefix: str) -> None:
        answer = self._connection.ask("DELETE", f"/v1/kv?prefix={prefix}")
        keys = [key for key in self.model.data if key.startswith(prefix)]
        assert (answer.status, answer.json()) == (200, {"deleted": len(keys)})
        for key in keys:
            del self.model.data[key]
        self.model.revision += bool(keys)

    def txn(
        self, asked: list[tuple[str, bool | str]], then: list[dict[str, Any]], otherwise: list[dict[str, Any]]
    ) -> None:
        conditions: list[dict[str, Any]] = [
            {"key": key, "revision": self.model.revision_of(key, int(said))}
            if isinstance(said, str)
            else {"key": key, "exists": said}
            for key, said in asked
        ]
        body = json.dumps({"if": conditions, "then": then, "else": otherwise}).encode()
        answer = self._connection.ask("POST", "/v1/txn", body)
        assert answer.status == 200
        holds = all(map(self.model.holds, conditions))
        results = self.model.do(then if holds else otherwise)
        assert known(answer.json()) == {"committed": holds, "revision": self.model.revision, "results": results}


@given(steps=STEPS)
def test_it_answers_like_its_model(serve: StartServer, steps: list[tuple[Any, ...]]) -> None:
    server = serve("--profile", "native", "--store", "memory", "--max-value", "1000")
    with Connection(server.address) as connection:
        asked = Asked(connection)
        for step, *arguments in [*steps, ("list", {}), *(("get", name) for name in NAMES)]:
            getattr(asked, step.replace(" ", "_"))(*arguments)
