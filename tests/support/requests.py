"""
Valid and malformed requests, to compare the results of different parsers: a fixed corpus, and hypothesis strategies.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.profiles import MAX_VALUE, NATIVE, Profile, encoded
from tests.support.wire import chunked, head, sized

KEY = "key"

LINES = {
    "plain": "GET /{k} HTTP/1.1",
    "query": "GET /{k}?a=b&c HTTP/1.1",
    "absolute": "GET http://localhost/{k} HTTP/1.1",
    "absolute, no path": "GET http://localhost HTTP/1.1",
    "absolute, in capitals": "GET HTTP://LOCALHOST/{k} HTTP/1.1",
    "an asterisk": "OPTIONS * HTTP/1.1",
    "a tunnel": "CONNECT localhost:80 HTTP/1.1",
    "a tunnel to a path": "CONNECT /{k} HTTP/1.1",
    "an unknown method": "M-SEARCH /{k} HTTP/1.1",
    "a method in lower case": "get /{k} HTTP/1.1",
    "a relative target with a scheme in it": "GET {k}?a=http://localhost/ HTTP/1.1",
    "no scheme": "GET ://localhost/{k} HTTP/1.1",
    "a scheme that is none": "GET 1a://localhost/{k} HTTP/1.1",
    "a malformed authority": "GET http://local{{host/{k} HTTP/1.1",
    "a fragment": "GET /{k}#a HTTP/1.1",
    "slashes": "GET //{k}/ HTTP/1.1",
    "encoded": "GET /%6b%2Fy HTTP/1.1",
    "broken encoding": "GET /%zz HTTP/1.1",
    "bytes": "GET /caf\xe9 HTTP/1.1",
    "odd characters": 'GET /<>"{{}}|\\^` HTTP/1.1',
    "DEL": "GET /\x7f HTTP/1.1",
    "old": "GET /{k} HTTP/1.0",
    "older": "GET /{k}",
    "newer": "GET /{k} HTTP/2.0",
    "two spaces": "GET  /{k} HTTP/1.1",
    "a tab": "GET\t/{k} HTTP/1.1",
    "a trailing space": "GET /{k} HTTP/1.1 ",
    "HTTP/2's first words": "PRI * HTTP/2.0",
    "TLS": "\x16\x03\x01\x02\x00\x01",
}

HEADERS = (
    *(
        "X-A: b",
        "X-A:",
        "X-A: \t b \t",
        "X-A: caf\xe9",
        "x!#$%&'*+-.^_`|~9: a",
        "Cookie: a=b; c=d",
        "X-A: " + "a" * 3000,
    ),
    *("Connection: close", "Connection: Close", "Connection: keep-alive", "Connection: x, close", "Connection:"),
    *("Connection: close, keep-alive", "Connection: Upgrade", "Connection: keep-alive\r\nConnection: close"),
    *("Upgrade: h2c", "Upgrade: websocket\r\nConnection: Upgrade", "Keep-Alive: timeout=5", "Proxy-Connection: close"),
    *("Expect: 100-continue", "expect: 100-Continue ", "Expect: 200-ok", "Expect:", "TE: trailers", "Trailer: X-A"),
    *("Host: localhost", "Host: other", "Host: a b", "Host: [::1]:80", "Host: a/b", "Host:", "Host: a:b"),
    *(
        "X-A : b",
        ": b",
        "X A: b",
        "X(A): b",
        "X-A",
        " X-A: b",
        "\tX-A: b",
        "X-A: b\r\n c",
        "X-A: b\r\n\tc",
        "X-A: b\nX-B: c",
    ),
    *(
        "X-A: \x00",
        "X\x00: b",
        "X-A: \x01",
        "X-A: \x7f",
        "X-A: a\rb",
        "X\xe9: b",
        "X-A: b\r",
        '"X": b',
        "X-A:b:c",
        "X@: b",
    ),
    *("Content-Length: 0", "Content-Length: 1", "Content-Length: 3", "Content-Length: +1", "Content-Length: 1, 1"),
    *(
        "Content-Length: 1 ",
        "Content-Length:1",
        "Content-Length: ",
        "Content-Length: 0x1",
        "Content-Length: 99999999999",
    ),
    *("Content-Length: 99999999999999999999", "Content-Length : 1", "Content-Length: 01", "Content-Length: 1\t"),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked ",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
    ),
    *(
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: x",
    ),
    *(
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\t",
        "Transfer_Encoding: chunked",
    ),
)

CHUNKED = (
    *(
        "0\r\n\r\n",
        "1\r\n1\r\n0\r\n\r\n",
        '2\r\n"a\r\n1\r\n"\r\n0\r\n\r\n',
        "A\r\n1234567890\r\n0\r\n\r\n",
        "001\r\n1\r\n000\r\n\r\n",
    ),
    *(
        "1\r\n1\r\n0\r\nX: y\r\n\r\n",
        "1\r\n1\r\n0\r\nX: y\r\n z\r\n\r\n",
        "1\r\n1\r\n0\r\nX\r\n\r\n",
        "1\r\n1\r\n0\r\n: y\r\n\r\n",
    ),
    *(
        "1;a=b\r\n1\r\n0\r\n\r\n",
        '1;a;b="c;d"\r\n1\r\n0;e\r\n\r\n',
        "1 ; a = b\r\n1\r\n0\r\n\r\n",
        "1;\r\n1\r\n0\r\n\r\n",
        '1;a="\r\n1\r\n0\r\n\r\n',
        "1;a\n\r\n1\r\n0\r\n\r\n",
    ),
    *(
        "1 \r\n1\r\n0\r\n\r\n",
        "0x1\r\n1\r\n0\r\n\r\n",
        "-1\r\n1\r\n0\r\n\r\n",
        "1\n1\n0\n\n",
        "1\r\n12\r\n0\r\n\r\n",
    ),
    *(
        "\r\n0\r\n\r\n",
        "g\r\n",
        "1\r\n1\r\n",
        "1\r\n1",
        "1\r\n1\r\n0\r\n",
        "fffffffff\r\n1",
        "ffffffffffffffffffff\r\n1",
        "1\r\n1\rX0\r\n\r\n",
    ),
)
"""Chunked bodies, valid and malformed."""


def own_requests(profile: Profile) -> dict[str, bytes]:
    """Requests that a profile has handlers for, each after the writes that it needs."""
    write = profile.write(KEY, b'"v"')
    change = encoded(write) + (sized("POST", "/commit", b"") if profile.commits else b"")
    target = profile.target(KEY)
    requests = {
        "write": change,
        "write in chunks": chunked(write.method, write.target, write.body[:2], write.body[2:]),
        "read": change + head("GET", target),
        "head": change + head("HEAD", target),
        "read nothing": head("GET", profile.target("nothing")),
        "delete": change + encoded(profile.delete(KEY)) + head("GET", target),
        "delete nothing": encoded(profile.delete("nothing")),
        "no such path": head("GET", "/no/such/path"),
        "the root": head("GET", "/"),
        "wrong method": sized("PATCH", target, b"1"),
        "an empty body": sized(write.method, write.target, b""),
        "no body": head(write.method, write.target),
        "no JSON, no UTF-8": sized(write.method, write.target, b"\xff{"),
        "too large": sized(write.method, write.target, bytes(MAX_VALUE * 2)),
        "too large, not sent": head(write.method, write.target, f"Content-Length: {10**9}"),
        "too large, in chunks": chunked(write.method, write.target, *[bytes(30_000)] * 3),
        "a body that is not read": sized("GET", target, encoded(write)) + head("GET", target),
        "expectation": head(write.method, write.target, "Expect: 100-continue", f"Content-Length: {len(write.body)}")
        + write.body,
        "expectation of something large": head(
            write.method, write.target, "Expect: 100-continue", f"Content-Length: {10**9}"
        ),
        "the last one": change + head("GET", target, "Connection: close") + head("GET", target),
        "the last one, said with others": head("GET", target, "Connection: x, Close") + head("GET", target),
        "HTTP/1.0": head("GET", target, version="HTTP/1.0") + head("GET", target),
        "HTTP/1.0 that goes on": head("GET", target, "Connection: keep-alive", version="HTTP/1.0") * 2,
        "HTTP/1.0 with a body": encoded(write).replace(b"HTTP/1.1", b"HTTP/1.0"),
        "HTTP/1.0 with chunks": chunked(write.method, write.target, write.body).replace(b"HTTP/1.1", b"HTTP/1.0"),
        "a long path": head("GET", "/" + "a" * 3000),
        "history": change * 3 + head("GET", f"/{KEY}/history"),
        "listing": change + head("GET", "/keys") + head("HEAD", "/keys"),
        "paging": change + head("GET", "/keys?limit=1&filter=$"),
        "twice the same parameter": head("GET", "/keys?limit=1&limit=2"),
        "a map": sized("PUT", "/keys?expire_in=60", b'{"a":1,"b":2}') + head("GET", "/keys?limit=1"),
        "clear": change + sized("DELETE", "/clear", b"") + head("GET", target),
        "health": head("GET", "/health"),
        "empty lines": b"\r\n\r\n" + head("GET", target) + b"\r\n" + head("GET", target),
        "many": head("GET", target) * 20,
    }
    return requests | _native_requests(change, target) if profile is NATIVE else requests


def _native_requests(change: bytes, target: str) -> dict[str, bytes]:
    txn = (
        b'{"if":[{"key":"key","exists":true}],"then":[{"range":{}},{"put":{"key":"a","json":[1]}},{"get":{"key":"a"}}]}'
    )
    lines = "Accept: application/x-ndjson"
    return {
        "pages": change + head("GET", "/v1/kv?limit=1") + head("HEAD", "/v1/kv") + head("GET", "/v1/kv?keys_only=true"),
        "lines": change + head("GET", "/v1/kv", lines) + head("HEAD", "/v1/kv", lines) + head("GET", target),
        "delete many": change + sized("DELETE", "/v1/kv?prefix=k", b"") + sized("DELETE", "/v1/kv", b""),
        "transaction": change + sized("POST", "/v1/txn", txn) + chunked("POST", "/v1/txn", txn[:7], txn[7:]),
        "broken transaction": sized("POST", "/v1/txn", txn[:-1]) + sized("POST", "/v1/txn", b""),
        "broken JSON": sized("PUT", target, b"{", "Content-Type: application/json") + head("GET", target),
        "media type": sized("PUT", target, b"1", "Content-Type: a/b") + head("GET", target) + head("HEAD", target),
        "no media type": sized("PUT", target, b"1", "Content-Type: a", "Content-Type: b/c") + head("GET", target),
        "expiry": sized("PUT", f"{target}?ttl=60", b"1") + sized("PUT", f"{target}?ttl=0&ttl", b"1"),
        "previous": change + sized("PUT", f"{target}?return=previous", b"2"),
        "part": change + head("GET", target, "Range: bytes=1-") + head("GET", target, "Range: bytes=99-"),
        "if it is new": change + sized("PUT", target, b"2", "If-None-Match: *") + head("GET", target, "If-Match: *"),
        "if it is there": sized("PUT", target, b"2", "If-Match: *") + head("DELETE", target, 'If-Match: "1", *'),
        "conditions on all": head("GET", "/v1/kv", "If-Match: *") + sized("POST", "/v1/txn", txn, "If-None-Match: *"),
        "a key with slashes": sized("PUT", "/v1/kv/a//b/", b"1") + head("GET", "/v1/kv/a%2F/b/"),
        "status": head("GET", "/v1/status") + head("HEAD", "/v1/status"),
        "the document": head("HEAD", "/openapi.json") + head("GET", "/v1/openapi.json") + head("GET", target),
    }


def corpus(profile: Profile) -> dict[str, bytes]:
    """All requests of the corpus."""
    write = profile.write(KEY, b'"v"')
    start, body = encoded(write).split(b"\r\n\r\n")
    requests = own_requests(profile)
    for name, line in LINES.items():
        requests[f"line: {name}"] = line.format(k=KEY).encode("latin-1") + b"\r\nHost: localhost\r\n\r\n"
    for header in HEADERS:
        requests[f"header: {header[:40]!r}"] = start + b"\r\n" + header.encode("latin-1") + b"\r\n\r\n" + body
    without = start.rpartition(b"\r\n")[0] + b"\r\n"
    for header in HEADERS:
        if header.lower().startswith(("content-length", "transfer", "expect", "x-a")):
            requests[f"only: {header[:40]!r}"] = without + header.encode("latin-1") + b"\r\n\r\n" + body
    for coding in ("chunked\t", "chunked ", "CHUNKED"):
        good = f'Transfer-Encoding: {coding}\r\n\r\n3\r\n"v"\r\n0\r\n\r\n'
        requests[f"good chunks: {coding!r}"] = without + good.encode()
    for form in CHUNKED:
        requests[f"chunks: {form!r}"] = without + b"Transfer-Encoding: chunked\r\n\r\n" + form.encode()
    requests["no Host"] = start.replace(b"Host: localhost\r\n", b"") + b"\r\n\r\n" + body
    return requests


# --- strategies of hypothesis -----------------------------------------------------------------------------------------


def _targets(profile: Profile) -> list[str]:
    return [profile.target(KEY), profile.write(KEY, b"1").target, "/", "*", "/no/such/path"]


@st.composite
def requests(draw: st.DrawFn, profile: Profile) -> bytes:
    """One request, usually valid."""
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return draw(st.sampled_from(list(own_requests(profile).values())))
    method = draw(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "get", "X"]))
    target = draw(st.sampled_from(_targets(profile)))
    line = f"{method} {target} HTTP/1.{draw(st.sampled_from('1110'))}"
    if kind == 9:
        line = draw(st.sampled_from(list(LINES.values()))).format(k=KEY)
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=3))
    if draw(st.integers(0, 15)):
        headers.insert(0, "Host: localhost")
    body = draw(st.sampled_from(["", "", "1", '"v"', '{"key":1}', *CHUNKED]))
    return "\r\n".join([line, *headers, "", body]).encode("latin-1")


PIECES = st.sampled_from(
    [
        *(bytes([byte]) for byte in b'\x00\r\n\t :/%09-;"{\xff'),
        *[b"\r\n", b"\r\n\r\n", b"%00", b"HTTP/1.1", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"],
        *[b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"Connection: close\r\n"],
    ]
)
MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "delete", "double"]), st.floats(0, 1), PIECES), max_size=3
)


def mutated(data: bytes, mutations: list[tuple[str, float, bytes]]) -> bytes:
    """Damage data: each mutation is a kind, a relative position, and the bytes to use."""
    for kind, where, piece in mutations:
        at = int(where * len(data))
        before, after = data[:at], data[at:]
        match kind:
            case "replace":
                data = before + piece + after[len(piece) :]
            case "insert":
                data = before + piece + after
            case "delete":
                data = before + after[len(piece) :]
            case _:
                data = before + after[:20] + after
    return data


@st.composite
def conversations(draw: st.DrawFn, profile: Profile) -> list[bytes]:
    """The bytes of a client on one connection, in the pieces in which they arrive."""
    data = b"".join(draw(st.lists(requests(profile), min_size=1, max_size=4)))
    if draw(st.booleans()):
        data = mutated(data, draw(MUTATIONS))
    cuts = sorted(int(cut * len(data)) for cut in draw(st.lists(st.floats(0, 1), max_size=4)))
    return cut_at(data, *cuts)


def cut_at(data: bytes, *cuts: int) -> list[bytes]:
    """The data in pieces."""
    return [data[start:end] for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True)]
