"""`GET /keys`: everything in key order, filtered by a pattern, a page at a time if wanted."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, urljoin

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import JSON, Answer, is_json_error
from tests.support.inprocess import Client

WORDS = ["wo", "wod", "word", "world", "would", "Word", "sword", "words", "w.d", "wo.d", "wö😊d"]


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "keys"]


async def fill(http: Client, keys: list[str]) -> None:
    """Set every key to itself."""
    assert (await http("PUT", "/keys", json.dumps({key: key for key in keys}).encode())).status == 201


def listed(answer: Answer) -> list[str]:
    """The keys of a listing, in their order."""
    assert answer.status == 200
    assert answer.header("content-type") == JSON
    pairs: list[tuple[str, str]] = json.loads(answer.body, object_pairs_hook=list)
    assert all(key == value for key, value in pairs)
    return [key for key, _ in pairs]


def following(answer: Answer, target: str) -> str | None:
    """The target of the next page, as the Link header gives it."""
    link = answer.header("link")
    if link is None:
        return None
    found = re.fullmatch(r'<([^<>" ]+)>; rel="next"', link)
    assert found is not None, link
    absolute = urljoin(f"http://localhost{target}", found[1])
    return re.sub(r"^https?://[^/]+", "", absolute)


async def pages(http: Client, target: str) -> list[list[str]]:
    """All pages from a first one on."""
    found = []
    following_target: str | None = target
    while following_target is not None:
        answer = await http("GET", following_target)
        found.append(listed(answer))
        following_target = following(answer, following_target)
        assert len(found) < 1000, "the pages do not end"
    return found


@ensureDeferred
async def test_listing_is_in_key_order(http: Client) -> None:
    keys = ["b", "a", "aa", "Z", "é", "z", "\uff5e", "😊", "0", "10", "9", "~", " ", "a/b", '"', "\\"]
    await fill(http, keys)
    answer = await http("GET", "/keys")
    assert listed(answer) == sorted(keys, key=lambda key: key.encode())
    assert answer.header("link") is None


@ensureDeferred
async def test_listing_of_many_large_values_is_whole(http: Client) -> None:
    value = json.dumps("v" * 100_000).encode()
    for number in range(40):
        await http("PUT", f"/keys/{number:02}", value)
    document = (await http("GET", "/keys")).json()
    assert document == {f"{number:02}": "v" * 100_000 for number in range(40)}


@ensureDeferred
async def test_listing_of_thousands_of_keys_is_whole(http: Client) -> None:
    keys = [f"key-{number:05}" for number in range(5000)]
    await fill(http, keys)
    assert listed(await http("GET", "/keys")) == keys
    assert listed(await http("GET", "/keys?limit=1000000")) == keys
    assert listed(await http("GET", "/keys?filter=$-0$9")) == [
        key for key in keys if key.startswith("key-0") and key.endswith("9")
    ]


PATTERNS = pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        pytest.param("wo$d", ["wo.d", "wod", "word", "world", "would"], id="the example"),
        pytest.param("wo%24d", ["wo.d", "wod", "word", "world", "would"], id="an encoded wildcard"),
        pytest.param("wo$", ["wo", "wo.d", "wod", "word", "words", "world", "would"], id="a prefix"),
        pytest.param("$word", ["sword", "word"], id="a suffix"),
        pytest.param("$or$", ["Word", "sword", "word", "words", "world"], id="a part"),
        pytest.param("word", ["word"], id="no wildcard"),
        pytest.param("$", sorted(WORDS, key=str.encode), id="only a wildcard"),
        pytest.param("$$$", sorted(WORDS, key=str.encode), id="only wildcards"),
        pytest.param("w$o$r$d", ["word", "world"], id="more parts"),
        pytest.param("w$$d", ["w.d", "wo.d", "wod", "word", "world", "would", "wö😊d"], id="two in a row"),
        pytest.param("w.d", ["w.d"], id="a dot is a dot"),
        pytest.param("wo.*", [], id="no regular expression"),
        pytest.param("w?d", [], id="no question mark"),
        pytest.param("[w]ord", [], id="no brackets"),
        pytest.param("wo%5C$d", [], id="no escape"),
        pytest.param("w%C3%B6$d", ["wö😊d"], id="unicode"),
        pytest.param("$%F0%9F%98%8Ad", ["wö😊d"], id="beyond the plane"),
        pytest.param("WORD", [], id="case counts"),
        pytest.param("", [], id="empty"),
        pytest.param("wo$wod", [], id="parts may not overlap"),
        pytest.param("%00", [], id="NUL"),
        pytest.param("$" * 3000 + "x", [], id="3000 wildcards"),
    ],
)


@PATTERNS
@ensureDeferred
async def test_filter(http: Client, pattern: str, matches: list[str]) -> None:
    await fill(http, WORDS)
    assert listed(await http("GET", f"/keys?filter={pattern}")) == matches


@PATTERNS
@ensureDeferred
async def test_deletion_with_a_filter_deletes_what_is_listed_with_it(
    http: Client, pattern: str, matches: list[str]
) -> None:
    await fill(http, WORDS)
    assert (await http("DELETE", f"/keys?filter={pattern}")).status == 204
    assert listed(await http("GET", "/keys")) == [word for word in sorted(WORDS, key=str.encode) if word not in matches]


@pytest.mark.parametrize("query", ["fil%74er=z", "%66ilter=z", "filter=%7a", "&filter=z&"])
@ensureDeferred
async def test_filter_of_a_deletion_is_known_however_it_is_written(http: Client, query: str) -> None:
    await fill(http, ["y", "z"])
    assert listed(await http("GET", f"/keys?{query}")) == ["z"]
    assert (await http("DELETE", f"/keys?{query}")).status == 204
    assert listed(await http("GET", "/keys")) == ["y"]


@pytest.mark.parametrize("query", ["filter=a&filter=b", "filter=%zz", "filter=a%", "filter=%ff"])
@ensureDeferred
async def test_deletion_with_a_bad_filter_is_400_and_deletes_nothing(http: Client, query: str) -> None:
    await fill(http, WORDS)
    is_json_error(await http("DELETE", f"/keys?{query}"), 400)
    assert listed(await http("GET", "/keys")) == sorted(WORDS, key=str.encode)


@ensureDeferred
async def test_deletion_of_thousands_leaves_the_others(http: Client) -> None:
    await fill(http, [f"{letter}{number:04}" for number in range(2500) for letter in "abc"])
    assert (await http("DELETE", "/keys?filter=b$")).status == 204
    assert (await http("DELETE", "/keys?filter=$5")).status == 204
    left = [f"{letter}{number:04}" for letter in "ac" for number in range(2500) if number % 10 != 5]
    assert listed(await http("GET", "/keys")) == left


@ensureDeferred
async def test_pattern_that_would_backtrack_is_answered(http: Client) -> None:
    await fill(http, ["a" * 255, "a" * 254 + "b"])
    assert listed(await http("GET", "/keys?filter=" + "$a" * 100 + "$b")) == ["a" * 254 + "b"]
    assert listed(await http("GET", "/keys?filter=" + "$a" * 100 + "$c")) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 11, 12])
@ensureDeferred
async def test_pages_are_the_listing_in_pieces(http: Client, limit: int) -> None:
    await fill(http, WORDS)
    found = await pages(http, f"/keys?limit={limit}")
    assert [key for page in found for key in page] == sorted(WORDS, key=str.encode)
    assert all(len(page) == limit for page in found[:-1])
    assert len(found[-1]) <= limit


@ensureDeferred
async def test_pages_keep_the_filter(http: Client) -> None:
    await fill(http, [f"{letter}{number:03}" for letter in "ab" for number in range(200)])
    found = await pages(http, "/keys?filter=$7&limit=3")
    expected = [f"{letter}{number:03}" for letter in "ab" for number in range(7, 200, 10)]
    assert [key for page in found for key in page] == expected
    assert all(len(page) <= 3 for page in found)


@ensureDeferred
async def test_pages_pass_over_keys_that_need_encoding(http: Client) -> None:
    keys = [
        "a&b",
        "a=b",
        "a b",
        "a+b",
        "a%41",
        "a#",
        'a"',
        "a>; rel",
        "a<",
        "é😊",
        "a/b",
        "a?",
        "a;",
        "a,b",
        "$",
    ]
    await fill(http, keys)
    assert [key for page in await pages(http, "/keys?limit=1&filter=$") for key in page] == sorted(keys, key=str.encode)


@ensureDeferred
async def test_last_page_has_no_link(http: Client) -> None:
    await fill(http, WORDS)
    assert (await http("GET", f"/keys?limit={len(WORDS) + 1}")).header("link") is None
    assert (await http("GET", f"/keys?limit={len(WORDS) - 1}")).header("link") is not None
    assert (await http("GET", "/keys?limit=1&filter=nothing")).header("link") is None


@pytest.mark.parametrize(
    ("after", "first"),
    [("b", "c"), ("bb", "c"), ("", "a"), ("0", "a"), ("c", "é"), ("%C3%A9", None), ("~", "é")],
)
@ensureDeferred
async def test_after_starts_behind_a_key(http: Client, after: str, first: str | None) -> None:
    await fill(http, ["a", "b", "c", "é"])
    expected = [first] if first else []
    assert listed(await http("GET", f"/keys?after={after}"))[:1] == expected
    assert listed(await http("GET", f"/keys?limit=1&after={after}")) == expected


@ensureDeferred
async def test_after_works_with_a_filter(http: Client) -> None:
    await fill(http, WORDS)
    assert listed(await http("GET", f"/keys?filter=wo$d&after={quote('wod')}")) == ["word", "world", "would"]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("limit=", id="empty limit"),
        pytest.param("limit=0", id="zero"),
        pytest.param("limit=-1", id="negative"),
        pytest.param("limit=%2B5", id="plus"),
        pytest.param("limit=1.0", id="fraction"),
        pytest.param("limit=1_0", id="underscore"),
        pytest.param("limit=%201", id="space"),
        pytest.param("limit=1%0A", id="newline"),
        pytest.param("limit=%D9%A1", id="another script's digit"),
        pytest.param("limit=ten", id="word"),
        pytest.param("limit=1000001", id="over a million"),
        pytest.param("limit=" + "9" * 5000, id="5000 digits"),
        pytest.param("limit=1&limit=2", id="two limits"),
        pytest.param("limit=1&limit=1", id="the same limit twice"),
        pytest.param("filter=a&filter=b", id="two filters"),
        pytest.param("after=a&after=b", id="two starts"),
        pytest.param("limit=%zz", id="broken limit"),
        pytest.param("filter=%zz", id="broken filter"),
        pytest.param("filter=a%", id="cut off filter"),
        pytest.param("filter=%ff", id="filter that is no UTF-8"),
        pytest.param("after=%zz", id="broken start"),
        pytest.param("after=%ed%a0%80", id="start that is no UTF-8"),
    ],
)
@ensureDeferred
async def test_bad_query_is_400(http: Client, query: str) -> None:
    await fill(http, WORDS)
    is_json_error(await http("GET", f"/keys?{query}"), 400)
