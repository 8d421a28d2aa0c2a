"""Valid requests with bytes changed, dropped, doubled or put in: never a 500, never a hang."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.support.profiles import KEYS, MAX_VALUE, encoded
from tests.support.requests import MUTATIONS, mutated
from tests.support.wire import Connection, chunked, head


@settings(max_examples=300)
@given(framing=st.sampled_from(["sized", "chunked"]), mutations=MUTATIONS.filter(bool))
def test_mutated_request(serve: StartServer, framing: str, mutations: list[tuple[str, float, bytes]]) -> None:
    server = serve("--profile", KEYS.name, "--store", "memory", "--max-value", str(MAX_VALUE))
    call = KEYS.write("mutated", b'"value"')
    whole = encoded(call) if framing == "sized" else chunked(call.method, call.target, call.body[:3], call.body[3:])
    with Connection(server.address) as connection:
        connection.send(mutated(whole + head("GET", KEYS.target("mutated")), mutations))
        connection.half_close()
        answers = connection.receive_rest()
    assert not re.search(rb"^HTTP/1\.[01] [35]", answers, re.MULTILINE), answers
    assert answers == b"" or answers.startswith(b"HTTP/1."), answers
    with Connection(server.address) as connection:
        assert connection.ask("GET", "/no/such/path").status == 404
