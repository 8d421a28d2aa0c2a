"""
Other people's clients: connections that stay open, pipelines, chunked bodies, TLS.

They differ in details that no specification mentions.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor
from twisted.web.client import Agent, HTTPConnectionPool

from tests.conftest import StartServer
from tests.support.profiles import value_of
from tests.support.server import PATIENCE, Server, running
from tests.support.tls import self_signed
from tests.support.wire import ask

LARGE = value_of(300_000)
OPTIONS = ("--profile", "keys", "--store", "memory", "--max-value", "400000")


@pytest.fixture
def server(serve: StartServer) -> Server:
    """A process, the same for all."""
    return serve(*OPTIONS)


@pytest.fixture
def url(server: Server) -> str:
    """Where its keys are."""
    return "http://{}:{}/keys".format(*server.address)


def program(name: str, *arguments: str, text: bytes = b"") -> str:
    """Run a program, which must end well; returns what it has written to standard output. Skips where it is missing."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([name, *arguments], input=text, capture_output=True, timeout=PATIENCE * 3, check=False)
    assert done.returncode == 0, (name, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode()


# --- curl -------------------------------------------------------------------------------------------------------------

VERDICT = r"\n%{http_code} %{num_connects} %{http_version}\n"


def curl(*arguments: str, text: bytes = b"") -> str:
    return program("curl", "--silent", "--show-error", "--max-time", str(PATIENCE), *arguments, text=text)


def test_curl_keeps_its_connection(url: str, key: str) -> None:
    put = ["-X", "PUT", "-d", '"v"', "-w", VERDICT, f"{url}/{key}"]
    get = ["--next", "-s", "-S", "-w", VERDICT, f"{url}/{key}"]
    told = curl(*put, *get, *get)
    assert re.findall(r"^(\d+) (\d) 1.1$", told, re.MULTILINE) == [("201", "1"), ("200", "0"), ("200", "0")]
    assert told.count('"v"\n') == 2


def test_curl_speaks_http10(url: str, key: str) -> None:
    assert curl("--http1.0", "-X", "PUT", "-d", "1", "-w", VERDICT, f"{url}/{key}").split()[-3] == "201"
    assert curl("--http1.0", f"{url}/{key}") == "1"
    for number in range(4):
        curl("-X", "PUT", "--data-binary", "@-", f"{url}/{key}x{number}", text=LARGE)
    listing = curl("--http1.0", f"{url}?filter={key}x$")
    assert {len(value) for value in json.loads(listing).values()} == {len(LARGE) - 2}


def test_curl_waits_for_100_continue(url: str, key: str) -> None:
    told = curl("-X", "PUT", "-H", "Expect: 100-continue", "--expect100-timeout", str(PATIENCE), "-i", "--data-binary",
                "@-", f"{url}/{key}", text=LARGE)  # fmt: skip
    assert told.startswith("HTTP/1.1 100 ") and "\nHTTP/1.1 201 " in told


def test_curl_is_told_that_it_is_too_large(url: str, key: str) -> None:
    sent = ["-X", "PUT", "--data-binary", "@-", "-i", f"{url}/{key}"]
    assert curl("-H", "Expect: 100-continue", *sent, text=LARGE * 2).startswith("HTTP/1.1 413 ")
    assert curl("-H", "Expect:", *sent, text=LARGE * 2).startswith("HTTP/1.1 413 ")
    assert curl("-H", "Expect:", "-H", "Transfer-Encoding: chunked", *sent, text=LARGE * 2).startswith("HTTP/1.1 413 ")


def test_curl_sends_chunks(url: str, key: str) -> None:
    assert curl("-T", "-", "-w", VERDICT, f"{url}/{key}", text=LARGE).split()[-3] == "201"
    assert curl(f"{url}/{key}").encode() == LARGE


def test_curl_asks_for_the_head(url: str, key: str) -> None:
    curl("-X", "PUT", "-d", '"value"', f"{url}/{key}")
    told = curl("--head", f"{url}/{key}", "--next", "-s", "-S", "-w", VERDICT, f"{url}/{key}")
    assert "Content-Length: 7\r\n" in told
    assert told.endswith('"value"\n200 0 1.1\n')


def test_curl_over_tls(tmp_path: Path) -> None:
    certificate, private = self_signed(tmp_path, "127.0.0.1")
    endpoint = f"ssl:0:privateKey={private}:certKey={certificate}:interface=127.0.0.1"
    with running(tmp_path / "data", "--endpoint", endpoint, *OPTIONS) as server:
        there = ["--cacert", str(certificate), "-w", VERDICT, "https://{}:{}/keys/key".format(*server.address)]
        told = curl("-T", "-", *there, "--next", "-s", "-S", *there, text=LARGE)
        assert re.findall(r"^(\d+) (\d) 1.1$", told, re.MULTILINE) == [("201", "1"), ("200", "0")]
        assert LARGE.decode() in told
        assert "HTTP/1.1 413 " in curl("-H", "Expect:", "-i", "-T", "-", *there, text=LARGE * 2)
        server.stop()
        assert "Traceback" not in server.output() + server.errors()


def test_curl_over_a_unix_socket(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    with running(tmp_path / "data", "--endpoint", f"unix:{socket}", *OPTIONS) as server:
        there = ["--unix-socket", str(socket), "-w", VERDICT, "http://localhost/keys/key"]
        told = curl("-T", "-", *there, "--next", "-s", "-S", *there, text=LARGE)
        assert re.findall(r"^(\d+) (\d) 1.1$", told, re.MULTILINE) == [("201", "1"), ("200", "0")]
        assert LARGE.decode() in told
        server.stop()
        assert "Traceback" not in server.output() + server.errors()


# --- libraries --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_treq(url: str, key: str) -> None:
    pool = HTTPConnectionPool(reactor)
    client = treq.client.HTTPClient(Agent(reactor, pool=pool))
    for number in range(20):
        response = await client.put(f"{url}/{key}", json={"n": number})
        assert response.code in (200, 201)
        assert json.loads(await response.content()) == {key: {"n": number}}
        response = await client.get(f"{url}/{key}")
        assert await response.json() == {"n": number}
    assert (await client.head(f"{url}/{key}")).headers.getRawHeaders("Content-Length") == ["8"]
    assert (await client.delete(f"{url}/{key}")).code == 204
    await pool.closeCachedConnections()


def test_requests(url: str, key: str) -> None:
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        for number in range(20):
            assert session.put(f"{url}/{key}", json=number).status_code in (200, 201)
            assert session.get(f"{url}/{key}").json() == number
        assert session.head(f"{url}/{key}").headers["Content-Length"] == "2"
        pieces: Iterator[bytes] = iter([LARGE[:100], LARGE[100:]])
        assert session.put(f"{url}/{key}", data=pieces).status_code == 200
        assert session.get(f"{url}/{key}").content == LARGE
        assert session.get(f"{url}/none").status_code == 404
        assert session.delete(f"{url}/{key}").status_code == 204
        pools = session.get_adapter(url).poolmanager.pools
        assert [pools[name].num_connections for name in pools.keys()] == [1]  # noqa: SIM118


def test_httpx(url: str, key: str) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
        for number in range(20):
            assert client.put(f"{url}/{key}", json=number).status_code in (200, 201)
            assert client.get(f"{url}/{key}").json() == number
        assert client.head(f"{url}/{key}").headers["Content-Length"] == "2"
        assert client.put(f"{url}/{key}", content=iter([LARGE[:100], LARGE[100:]])).status_code == 200
        assert client.get(f"{url}/{key}").content == LARGE
        assert client.delete(f"{url}/{key}").status_code == 204
        assert client.put(f"{url}/{key}", content=LARGE * 2).status_code == 413
        assert client.get(f"{url}/{key}").status_code == 404


def test_aiohttp(url: str, key: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def pieces() -> AsyncIterator[bytes]:
        yield LARGE[:100]
        yield LARGE[100:]

    async def talk() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:

            async def ask(method: str, **more: Any) -> tuple[int, bytes]:
                async with session.request(method, f"{url}/{key}", **more) as response:
                    return response.status, await response.read()

            for number in range(20):
                assert (await ask("PUT", json=number))[0] in (200, 201)
                assert await ask("GET") == (200, b"%d" % number)
            assert await ask("HEAD") == (200, b"")
            assert (await ask("PUT", data=pieces(), expect100=True))[0] == 200
            assert await ask("GET") == (200, LARGE)
            assert await ask("DELETE") == (204, b"")

    asyncio.run(asyncio.wait_for(talk(), PATIENCE * 2))


FETCH = """
const url = process.argv[1];
const large = JSON.stringify('v'.repeat(300000));
async function ask(method, body, more) {
    const response = await fetch(url, {method, body, ...more});
    return [response.status, await response.text()];
}
const seen = [];
for (let number = 0; number < 20; number++) {
    await ask('PUT', String(number));
    seen.push(await ask('GET'));
}
await ask('PUT', new Blob([large]).stream(), {duplex: 'half'});
const [status, text] = await ask('GET');
const both = await Promise.all(Array.from({length: 50}, () => ask('GET')));
console.log(JSON.stringify({
    seen, large: status == 200 && text == large, same: both.every(([s, t]) => s == 200 && t == large),
    head: await ask('HEAD'), gone: await ask('DELETE'), none: await ask('GET'),
}));
"""


def test_nodes_fetch(url: str, key: str) -> None:
    told = json.loads(program("node", "--input-type=module", "-e", FETCH, f"{url}/{key}"))
    assert told["seen"] == [[200, str(number)] for number in range(20)]
    assert told["large"] and told["same"]
    assert (told["head"], told["gone"], told["none"][0]) == ([200, ""], [204, ""], 404)


# --- those that make load ---------------------------------------------------------------------------------------------

PIPELINE = """
init = function(args)
    local get, put = wrk.format("GET"), wrk.format("PUT", nil, nil, "1")
    wave = get .. put .. get .. get .. put .. get
end
request = function() return wave end
"""


@pytest.mark.parametrize("pipelined", [False, True], ids=["one by one", "pipelined"])
def test_wrk(url: str, server: Server, key: str, tmp_path: Path, pipelined: bool) -> None:
    ask(server.address, "PUT", f"/keys/{key}", b"1")
    script = tmp_path / "pipeline.lua"
    script.write_text(PIPELINE)
    told = program("wrk", "-t1", "-c50", "-d1", *(["-s", str(script)] if pipelined else []), f"{url}/{key}")
    found = re.search(r"(\d+) requests in", told)
    assert found is not None and int(found[1]) > 50, told
    assert "Non-2xx" not in told and "Socket errors" not in told, told


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "closed"])
def test_ab(url: str, server: Server, key: str, keep: bool) -> None:
    ask(server.address, "PUT", f"/keys/{key}", b"1")
    told = program("ab", "-q", "-n", "1000", "-c", "20", *(["-k"] if keep else []), f"{url}/{key}")
    assert re.search(r"^Complete requests: +1000$", told, re.MULTILINE), told
    assert re.search(r"^Failed requests: +0$", told, re.MULTILINE), told
    assert "Non-2xx" not in told
    if keep:
        assert re.search(r"^Keep-Alive requests: +1000$", told, re.MULTILINE), told
