"""`clstr` adds a health check to `lsfr`, and the log lines that its guide shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import TEXT, is_text
from tests.support.inprocess import Client
from tests.support.server import running
from tests.support.wire import Connection


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "clstr"]


@ensureDeferred
async def test_health_is_200_once_ready(http: Client) -> None:
    answer = await http("GET", "/health")
    assert answer.status == 200
    assert answer.header("content-type") == TEXT


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@ensureDeferred
async def test_health_is_only_read(http: Client, method: str) -> None:
    answer = await http(method, "/health")
    is_text(answer, 405, "method not allowed\n")
    assert answer.allow() == {"GET", "HEAD"}


@pytest.mark.parametrize("arguments", [["--profile", "lsfr"]])
@ensureDeferred
async def test_lsfr_has_no_health(http: Client) -> None:
    is_text(await http("GET", "/health"), 404, "not found\n")


def test_log_lines_of_the_spec(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "clstr") as server:
        with Connection(server.address) as connection:
            connection.ask("PUT", "/kv/kenya:capital", b"Nairobi")
            connection.ask("GET", "/kv/kenya:capital")
            connection.ask("DELETE", "/kv/kenya:capital")
            connection.ask("GET", "/kv/kenya:capital")
        server.wait_for(r"GET /kv/kenya:capital returning 404$")
        events = re.findall(r"(?:PUT|GET|DELETE) /kv/.*", server.output())
    assert events == [
        "PUT /kv/kenya:capital accepted, value=Nairobi",
        "GET /kv/kenya:capital returning 200",
        "DELETE /kv/kenya:capital accepted",
        "GET /kv/kenya:capital returning 404",
    ]


def test_value_cannot_forge_a_log_line(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "clstr") as server:
        with Connection(server.address) as connection:
            connection.ask("PUT", "/kv/a", "1\nforged\r\nforged\x0bforged\x85forged\u2028forged".encode())
            connection.ask("GET", "/kv/last")
        server.wait_for(r"GET /kv/last returning 404$")
        assert not [line for line in server.output().splitlines() if line.startswith("forged")]
