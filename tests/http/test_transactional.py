"""`transactional`: changes wait in a queue for the commit, and a value comes back as it was sent."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import JSON, is_json_error
from tests.support.inprocess import Client, at_once


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "transactional"]


async def committed(http: Client, *pairs: bytes) -> None:
    """Write pairs, and commit them."""
    for pair in pairs:
        assert (await http("POST", "/set", pair)).status in (200, 201)
    assert (await http("POST", "/commit")).status == 204


@ensureDeferred
async def test_transcript_of_the_spec(http: Client) -> None:
    transcript = [
        ("GET", "/key", None, 404, None),
        ("POST", "/set", b'{"key": "value"}', 201, b'{"key":"value"}'),
        ("GET", "/key", None, 404, None),
        ("POST", "/commit", None, 204, b""),
        ("GET", "/key", None, 200, b'{"key":"value"}'),
        ("DELETE", "/set", b'"key"', 200, b'"key"'),
        ("GET", "/key", None, 200, b'{"key":"value"}'),
        ("POST", "/commit", None, 204, b""),
        ("GET", "/key", None, 404, None),
    ]
    for method, target, body, status, shown in transcript:
        answer = await http(method, target, body, {"Content-Type": "application/json"})
        if shown is None:
            is_json_error(answer, status)
        else:
            assert (answer.status, answer.body) == (status, shown)


@ensureDeferred
async def test_pair_is_echoed_and_read_as_in_the_example(http: Client) -> None:
    echo = await http("POST", "/set", b'{"thing": "value"}', {"Content-Type": "application/json"})
    await http("POST", "/commit")
    read = await http("GET", "/thing")
    for answer, status in [(echo, 201), (read, 200)]:
        assert (answer.status, answer.body) == (status, b'{"thing":"value"}')
        assert answer.content_length == 17
        assert answer.header("content-type") == JSON


@pytest.mark.parametrize(
    ("before", "status"),
    [
        pytest.param([], 201, id="a key never seen"),
        pytest.param(["set"], 200, id="staged"),
        pytest.param(["set", "commit"], 200, id="committed"),
        pytest.param(["set", "delete"], 201, id="staged, then its deletion"),
        pytest.param(["set", "commit", "delete"], 201, id="committed, with a staged deletion"),
        pytest.param(["set", "commit", "delete", "set"], 200, id="committed, deleted and set again"),
        pytest.param(["set", "commit", "delete", "commit"], 201, id="deleted"),
        pytest.param(["delete"], 201, id="deletion of nothing"),
    ],
)
@ensureDeferred
async def test_201_when_the_key_would_be_new_after_all_that_is_staged(
    http: Client, before: list[str], status: int
) -> None:
    requests = {
        "set": ("POST", "/set", b'{"thing":1}'),
        "delete": ("DELETE", "/set", b'"thing"'),
        "commit": ("POST", "/commit", None),
    }
    for step in before:
        await http(*requests[step])
    assert (await http("POST", "/set", b'{"thing":2}')).status == status


@ensureDeferred
async def test_nothing_staged_is_visible_before_the_commit(http: Client) -> None:
    await committed(http, b'{"old":1}', b'{"doomed":1}')
    await http("POST", "/set", b'{"old":2}')
    await http("POST", "/set", b'{"new":2}')
    await http("DELETE", "/set", b'"doomed"')
    assert (await http("GET", "/old")).body == b'{"old":1}'
    assert (await http("GET", "/doomed")).body == b'{"doomed":1}'
    is_json_error(await http("GET", "/new"), 404)
    assert (await http("POST", "/commit")).status == 204
    assert (await http("GET", "/old")).body == b'{"old":2}'
    assert (await http("GET", "/new")).body == b'{"new":2}'
    is_json_error(await http("GET", "/doomed"), 404)


@ensureDeferred
async def test_last_staged_change_of_a_key_is_what_counts(http: Client) -> None:
    await http("POST", "/set", b'{"a":1}')
    await http("POST", "/set", b'{"a":2}')
    await http("DELETE", "/set", b'"b"')
    await http("POST", "/set", b'{"b":1}')
    await http("POST", "/set", b'{"c":1}')
    await http("DELETE", "/set", b'"c"')
    await http("POST", "/commit")
    assert (await http("GET", "/a")).body == b'{"a":2}'
    assert (await http("GET", "/b")).body == b'{"b":1}'
    is_json_error(await http("GET", "/c"), 404)


@ensureDeferred
async def test_commit_empties_the_queue(http: Client) -> None:
    await committed(http, b'{"a":1}')
    await http("DELETE", "/set", b'"a"')
    await http("POST", "/commit")
    assert (await http("POST", "/commit")).status == 204
    is_json_error(await http("GET", "/a"), 404)


@ensureDeferred
async def test_commit_of_an_empty_queue_is_204(http: Client) -> None:
    assert (await http("POST", "/commit")).status == 204


@ensureDeferred
async def test_commit_takes_no_payload_and_minds_none(http: Client) -> None:
    await http("POST", "/set", b'{"a":1}')
    assert (await http("POST", "/commit", b"{no json")).status == 204
    assert (await http("GET", "/a")).body == b'{"a":1}'


@ensureDeferred
async def test_nothing_is_lost_between_sets_and_commits_at_once(http: Client) -> None:
    sets = [http("POST", "/set", b'{"k%d":%d}' % (number, number)) for number in range(100)]
    commits = [http("POST", "/commit") for _ in range(20)]
    mixed = [request for start in range(20) for request in [*sets[start::20], commits[start]]]
    answers = await at_once(mixed)
    assert {answer.status for answer in answers} == {201, 204}
    assert (await http("POST", "/commit")).status == 204
    for number in range(100):
        assert (await http("GET", f"/k{number}")).body == b'{"k%d":%d}' % (number, number)


@ensureDeferred
async def test_deletion_of_a_missing_key_is_200(http: Client) -> None:
    answer = await http("DELETE", "/set", b'"no such thing"')
    assert (answer.status, answer.body) == (200, b'"no such thing"')
    assert answer.header("content-type") == JSON


@pytest.mark.parametrize("body", [b'"\\ud800"', b'"' + b"k" * 4097 + b'"'], ids=["lone surrogate", "too long"])
@ensureDeferred
async def test_deletion_of_a_key_that_cannot_exist_is_200(http: Client, body: bytes) -> None:
    answer = await http("DELETE", "/set", body)
    assert answer.status == 200
    assert isinstance(answer.json(), str)
    assert (await http("POST", "/commit")).status == 204


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"1.0", id="trailing zero"),
        pytest.param(b"1e400", id="beyond a double"),
        pytest.param(b"-0", id="minus zero"),
        pytest.param(b"1E+2", id="exponent"),
        pytest.param(b"1234567890123456789012345678901234567890", id="40 digits"),
        pytest.param(b"0.1234567890123456789012345678901234567890", id="40 decimals"),
        pytest.param(b"9" * 5000, id="5000 digits"),
        pytest.param(rb'"\u00e9"', id="escaped"),
        pytest.param('"é😊"'.encode(), id="not escaped"),
        pytest.param(rb'"\ud83d\ude0a"', id="escaped pair"),
        pytest.param(rb'"\ud800"', id="lone surrogate"),
        pytest.param(rb'"\u0000\/\b\f\n\r\t\"\\"', id="every escape"),
        pytest.param('"\u2028\u2029\x7f"'.encode(), id="line separators"),
        pytest.param(b"[1 ,  2]", id="inner spaces"),
        pytest.param(b'{"b":1,"a":2,"b":3}', id="repeated inner name"),
        pytest.param(b"null", id="null"),
        pytest.param(b"false", id="false"),
        pytest.param(b'""', id="empty string"),
        pytest.param(b"{}", id="empty object"),
        pytest.param(b"[" * 500 + b"]" * 500, id="500 deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100000 deep"),
    ],
)
@ensureDeferred
async def test_value_comes_back_exactly_as_it_was_sent(http: Client, value: bytes) -> None:
    pair = b'{"thing":' + value + b"}"
    echo = await http("POST", "/set", pair)
    assert (echo.status, echo.body) == (201, pair)
    await http("POST", "/commit")
    read = await http("GET", "/thing")
    assert (read.status, read.body) == (200, pair)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param(r"a\/b", "a%2Fb", id="slash"),
        pytest.param(r"\u0074hing", "thing", id="escaped letter"),
        pytest.param("é😊", "%C3%A9%F0%9F%98%8A", id="unicode"),
        pytest.param(r"\ud83d\ude0a", "%F0%9F%98%8A", id="surrogate pair"),
        pytest.param(r"\u0000\n\u007f", "%00%0A%7F", id="control characters"),
        pytest.param(r"say \"hi\" \\", "say%20%22hi%22%20%5C", id="quotes"),
        pytest.param("100%", "100%25", id="percent"),
        pytest.param("%41", "%2541", id="decoded once"),
        pytest.param("a+b", "a+b", id="plus is no space"),
        pytest.param("set", "set", id="named like a route"),
        pytest.param("commit", "commit", id="named like another route"),
        pytest.param("?#", "%3F%23", id="delimiters"),
    ],
)
@ensureDeferred
async def test_any_string_is_a_key(http: Client, name: str, target: str) -> None:
    pair = f'{{"{name}":1}}'.encode()
    echo = await http("POST", "/set", pair)
    assert echo.status == 201
    await http("POST", "/commit")
    read = await http("GET", f"/{target}")
    assert read.status == 200
    assert read.json() == echo.json()
    assert len(read.json()) == 1
    assert (await http("POST", "/set", pair)).status == 200
    assert (await http("DELETE", "/set", f'"{name}"'.encode())).json() == next(iter(read.json()))
    await http("POST", "/commit")
    is_json_error(await http("GET", f"/{target}"), 404)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="no pair"),
        pytest.param(b'{"a":1,"b":2}', id="two pairs"),
        pytest.param(b'{"a":1,"a":2}', id="a repeated name"),
        pytest.param(rb'{"a":1,"\u0061":2}', id="a repeated name in two spellings"),
        pytest.param(b'{"":1}', id="an empty key"),
        pytest.param(rb'{"\ud800":1}', id="a lone surrogate"),
        pytest.param(rb'{"a\udc00\ud800":1}', id="surrogates the wrong way round"),
        pytest.param(b'["a",1]', id="an array"),
        pytest.param(b'[{"a":1}]', id="an object in an array"),
        pytest.param(b'"a"', id="a string"),
        pytest.param(b"1", id="a number"),
        pytest.param(b"null", id="null"),
    ],
)
@ensureDeferred
async def test_set_takes_exactly_one_pair(http: Client, body: bytes) -> None:
    is_json_error(await http("POST", "/set", body), 400)
    await http("POST", "/commit")
    is_json_error(await http("GET", "/a"), 404)


@pytest.mark.parametrize(
    "body",
    [b'""', b"1", b"null", b'["a"]', b'{"a":1}'],
    ids=["empty string", "number", "null", "array", "object"],
)
@ensureDeferred
async def test_deletion_takes_a_string(http: Client, body: bytes) -> None:
    await committed(http, b'{"a":1}')
    is_json_error(await http("DELETE", "/set", body), 400)
    await http("POST", "/commit")
    assert (await http("GET", "/a")).body == b'{"a":1}'


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "a/b; c=d"])
@ensureDeferred
async def test_content_type_is_not_demanded(http: Client, media_type: str) -> None:
    assert (await http("POST", "/set", b' {"a":1} ', {"Content-Type": media_type})).status == 201
    assert (await http("DELETE", "/set", b'\t"a"\r\n', {"Content-Type": media_type})).status == 200


@pytest.mark.parametrize("arguments", [["--profile", "transactional", "--max-staged", "4KiB"]])
@ensureDeferred
async def test_507_when_the_queue_is_full_until_the_commit_makes_room(http: Client) -> None:
    large = b'"' + b"v" * 3000 + b'"'
    assert (await http("POST", "/set", b'{"a":' + large + b"}")).status == 201
    is_json_error(await http("POST", "/set", b'{"b":' + large + b"}"), 507)
    await http("POST", "/commit")
    assert (await http("GET", "/a")).status == 200
    is_json_error(await http("GET", "/b"), 404)
    assert (await http("POST", "/set", b'{"b":' + large + b"}")).status == 201


@pytest.mark.parametrize("arguments", [["--profile", "transactional", "--max-staged", "4KiB"]])
@ensureDeferred
async def test_restaging_a_key_takes_the_room_of_one(http: Client) -> None:
    pair = b'{"a":"' + b"v" * 3000 + b'"}'
    assert [(await http("POST", "/set", pair)).status for _ in range(3)] == [201, 200, 200]
