"""The console's files and routes, and what `/` says."""

from __future__ import annotations

import json
import re
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from kvtwist.profiles.console import DOWNLOAD, FILES, MEDIA_TYPES
from kvtwist.profiles.transactional import DELETION
from tests.support.answer import JSON, PROBLEM, is_json_error, is_text
from tests.support.inprocess import Client, start

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "transactional", "--ui"]


def serving(*arguments: str) -> Any:
    return pytest.mark.parametrize("arguments", [list(arguments)], ids=[" ".join(arguments)])


# --- files ------------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_every_file_is_served_with_its_type_and_a_policy(http: Client) -> None:
    for path in FILES.iterdir():
        answer = await http("GET", f"/ui/{path.name}")
        assert (answer.status, answer.body) == (200, path.read_bytes())
        assert answer.header("content-type") == MEDIA_TYPES[path.suffix]
        assert answer.header("x-content-type-options") == "nosniff"
        policy = answer.header("content-security-policy") or ""
        assert "unsafe" not in policy
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
            assert part in policy


@ensureDeferred
async def test_the_page_is_at_the_directory_and_loads_only_files_that_there_are(http: Client) -> None:
    for target in ("/ui/", "/ui/index.html"):
        page = (await http("GET", target)).body.decode()
        assert "<title>kvtwist</title>" in page
    named = set(re.findall(r'(?:src|href)="/ui/([\w.-]+)"', page))
    for path in FILES.glob("*.js"):
        named |= set(re.findall(r'^(?:import|\}) .*?from "\./([\w.-]+)";$', path.read_text(), re.MULTILINE))
    assert named | {"index.html"} == {path.name for path in FILES.iterdir()}


@ensureDeferred
async def test_a_file_that_the_browser_has_is_not_sent_again(http: Client) -> None:
    tag = (await http("GET", "/ui/app.js")).header("etag")
    assert tag is not None
    assert (await http("GET", "/ui/app.js", headers={"If-None-Match": tag})).status == 304


@pytest.mark.parametrize("target", ["/ui/none.js", "/ui/console.py", "/ui/..%2F__init__.py", "/ui/%2e%2e", "/ui/api"])
@ensureDeferred
async def test_nothing_else_is_served(http: Client, target: str) -> None:
    answer = await http("GET", target)
    assert (answer.status, answer.header("content-type")) == (404, PROBLEM)


@serving("--profile", "lsfr", "--profile", "native")
@ensureDeferred
async def test_without_the_option_there_is_no_console(http: Client) -> None:
    for target in ("/ui/", "/ui/app.js", "/ui/api/figures", "/ui/api/backup"):
        is_text(await http("GET", target), 404, "not found\n")


@ensureDeferred
async def test_the_other_profiles_keep_their_keys(http: Client) -> None:
    await http("POST", "/set", b'{"ui":1}')
    await http("POST", "/commit")
    assert (await http("GET", "/ui")).body == b'{"ui":1}'
    is_json_error(await http("PUT", "/ui", b"2"), 404)
    assert (await http("PUT", "/v1/kv/a", b"text")).status == 201


# --- figures, staged changes, backup ----------------------------------------------------------------------------------


@ensureDeferred
async def test_figures_are_the_metrics_and_what_is_served(http: Client) -> None:
    await http("PUT", "/v1/kv/a", b"12345")
    answer = await http("GET", "/ui/api/figures")
    assert (answer.status, answer.header("content-type"), answer.header("cache-control")) == (200, JSON, "no-store")
    said = answer.json()
    assert said["profiles"] == ["transactional", "native", "console"]
    assert (said["store"], said["durability"], said["max_value"]) == ("memory", "sync", 8 * 2**20)
    samples = {(name, *sorted(labels.items())): value for name, labels, value in said["samples"]}
    assert samples["kvtwist_store_records", ("keyspace", "data")] == 1
    assert samples["kvtwist_store_bytes", ("keyspace", "data")] == 6
    assert samples[("kvtwist_http_requests_in_flight",)] == 1
    put = [("method", "PUT"), ("profile", "native"), ("route", "/v1/kv/<path:key>"), ("status", "201")]
    assert samples[("kvtwist_http_requests_total", *put)] == 1


@serving("--profile", "native", "--profile", "lsfr", "--ui")
@ensureDeferred
async def test_native_keeps_its_place_if_it_is_served_anyway(http: Client) -> None:
    assert (await http("GET", "/ui/api/figures")).json()["profiles"] == ["native", "lsfr", "console"]


@ensureDeferred
async def test_staged_changes_are_listed_in_pages(http: Client) -> None:
    assert (await http("GET", "/ui/api/staged")).json() == {"changes": 0, "items": [], "next": None}
    await http("POST", "/set", b'{"b":{"x":1.0}}')
    await http("DELETE", "/set", b'"a"')
    await http("POST", "/set", b'{"c":"<b>"}')
    first = await http("GET", "/ui/api/staged?limit=2")
    assert b'"value":{"x":1.0}' in first.body, "a value comes as it was sent"
    assert [(item["key"], item["content_type"]) for item in first.json()["items"]] == [("a", DELETION), ("b", JSON)]
    assert (first.json()["changes"], first.json()["next"]) == (3, "b")
    rest = (await http("GET", "/ui/api/staged?after=b")).json()
    assert ([item["value"] for item in rest["items"]], rest["next"]) == (["<b>"], None)
    assert (await http("GET", "/ui/api/staged?limit=1001")).status == 400


@ensureDeferred
async def test_a_store_in_memory_has_no_backup(http: Client) -> None:
    answer = await http("GET", "/ui/api/backup")
    assert (answer.status, answer.json()["detail"]) == (404, "the store is in memory")


@ensureDeferred
async def test_a_backup_is_a_download(tmp_path: Path) -> None:
    client = await start("--profile", "native", "--ui", "--working-dir", str(tmp_path / "data"), "--admin", "off")
    try:
        await client("PUT", "/v1/kv/a", b"1")
        answer = await client("GET", "/ui/api/backup")
    finally:
        await client.stop()
    assert (answer.status, answer.header("content-type")) == (200, "application/x-tar")
    assert answer.header("content-disposition") == DOWNLOAD["Content-Disposition"]
    with tarfile.open(fileobj=BytesIO(answer.body)) as archive:
        assert any(name.startswith("journal-") for name in archive.getnames())


# --- / ----------------------------------------------------------------------------------------------------------------


@serving("--profile", "lsfr", "--profile", "native")
@ensureDeferred
async def test_a_browser_gets_a_page_at_the_root(http: Client) -> None:
    answer = await http("GET", "/", headers=BROWSER)
    assert (answer.status, answer.header("content-type")) == (200, "text/html; charset=utf-8")
    page = answer.body.decode()
    assert "<dd>lsfr, native</dd>" in page
    assert "--ui" in page and "/ui/" not in page
    assert (answer.header("content-security-policy") or "").startswith("default-src 'none'; style-src 'sha256-")


@ensureDeferred
async def test_the_root_links_to_the_console_if_it_is_served(http: Client) -> None:
    assert 'href="/ui/"' in (await http("GET", "/", headers=BROWSER)).body.decode()
    assert json.loads((await http("GET", "/")).body)["links"]["console"] == "/ui/"


@serving("--profile", "native")
@ensureDeferred
async def test_others_get_json_at_the_root(http: Client) -> None:
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        answer = await http("GET", "/", headers=accept)
        assert (answer.status, answer.header("content-type"), answer.header("vary")) == (200, JSON, "Accept")
        assert answer.json()["profiles"] == ["native"]
        assert answer.json()["links"] == {"status": "/v1/status", "keys": "/v1/kv", "watch": "/v1/watch"}


@serving("--profile", "history", "--ui")
@ensureDeferred
async def test_a_profile_that_answers_at_the_root_goes_on_doing_so(http: Client) -> None:
    is_json_error(await http("GET", "/", headers=BROWSER), 400)
