"""Valid requests with bytes changed, dropped, doubled or put in: never a 500, never a hang."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.support.dialects import DIALECTS, MAX_VALUE, Dialect, encoded
from tests.support.requests import MUTATIONS, mutated
from tests.support.wire import Connection, chunked, head

REPEATABLE: Final = settings(max_examples=600, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="session")
def front() -> str:
    """Drawn below: pytest-twisted runs a hypothesis test once, not once for each parameter."""
    return "own"


@REPEATABLE
@given(
    front=st.sampled_from(["own", "stock"]),
    dialect=st.sampled_from(DIALECTS),
    framing=st.sampled_from(["sized", "chunked"]),
    mutations=MUTATIONS.filter(bool),
)
def test_mutated_request(
    serve: StartServer, front: str, dialect: Dialect, framing: str, mutations: list[tuple[str, float, bytes]]
) -> None:
    options = ("--profile", dialect.profile, "--store", "memory", "--max-value", str(MAX_VALUE))
    server = serve("--http", front, *options)
    call = dialect.write("mutated", b'"value"')
    whole = encoded(call) if framing == "sized" else chunked(call.method, call.target, call.body[:3], call.body[3:])
    with Connection(server.address) as connection:
        connection.send(mutated(whole + head("GET", dialect.target("mutated")), mutations))
        connection.half_close()
        answers = connection.receive_rest()
    assert not re.search(rb"^HTTP/1\.[01] [35]", answers, re.MULTILINE), answers
    assert answers == b"" or answers.startswith(b"HTTP/1."), answers
    with Connection(server.address) as connection:
        assert connection.ask("GET", "/no/such/path").status == 404
