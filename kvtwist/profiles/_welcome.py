"""What `/` says to somebody who has only a port: that this is kvtwist, and where to go."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
from klein import Response

from kvtwist import __version__
from kvtwist.validators import Headers

CONSOLE = "console"
_STYLE = """
:root { color-scheme: light dark;
  --ink: #1c2426; --soft: #566367; --paper: #f6f7f6; --line: #dfe4e3; --accent: #0b6e69; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaea; --soft: #9aa8ab; --paper: #121718; --line: #2a3335; --accent: #4fc8bd; }
}
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 36rem; padding: 2rem 1.5rem; }
h1 { margin: 0 0 .25rem; font-size: 2rem; letter-spacing: -.02em; }
p { margin: 0 0 1.5rem; color: var(--soft); }
a { color: var(--accent); }
a.go { display: inline-block; padding: .6rem 1.1rem; border-radius: .5rem; text-decoration: none; font-weight: 600;
  background: var(--accent); color: var(--paper); }
dl { display: grid; grid-template-columns: auto 1fr; gap: .4rem 1.5rem; margin: 0 0 1.5rem; padding: 1rem 0;
  border: solid var(--line); border-width: 1px 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0; padding: 1rem; border: 1px solid var(--line); border-radius: .5rem; overflow-x: auto;
  font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
"""
_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_LINKS = {"status": "/v1/status", "keys": "/v1/kv", "watch": "/v1/watch"}
_OPEN = '<p><a class="go" href="/ui/">Open the console</a></p>'
_START = "<p>There is a console, too: start the server with <code>--ui</code>.</p>"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kvtwist</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>kvtwist</h1>
<p>A durable key-value server, version {version}.</p>
<dl>
<dt>Serves</dt><dd>{profiles}</dd>
<dt>Keys</dt><dd><a href="/v1/kv?keys_only=true">/v1/kv</a></dd>
<dt>Status</dt><dd><a href="/v1/status">/v1/status</a></dd>
</dl>
{console}
<p>With the address of this page as <code>$URL</code>:</p>
<pre>curl -X PUT $URL/v1/kv/hello -d world
curl $URL/v1/kv/hello
curl -N $URL/v1/watch</pre>
</main>
</body>
</html>
"""


def answer_welcome(request: Any, profiles: Sequence[str]) -> Response:
    """HTML to a browser, JSON to other clients."""
    has_console = CONSOLE in profiles
    if b"text/html" not in (request.getHeader(b"accept") or b""):
        links = {**_LINKS, "console": "/ui/"} if has_console else _LINKS
        said = {"name": "kvtwist", "version": __version__, "profiles": profiles, "links": links}
        return Response(200, {"Content-Type": "application/json", "Vary": "Accept"}, msgspec.json.encode(said))
    page = _PAGE.format(
        style=_STYLE,
        version=__version__,
        profiles=", ".join(name for name in profiles if name != CONSOLE),
        console=_OPEN if has_console else _START,
    )
    headers: Headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept",
    }
    return Response(200, headers, page.encode())
