"""
Requests that a web page makes a browser send (https://fetch.spec.whatwg.org, https://www.w3.org/TR/fetch-metadata).

A server on a developer's machine can be reached by every page that the developer opens: it needs no password, and the
browser is inside the firewall. So a request that may change something is refused if a page of another origin sent it,
unless that origin is allowed. Browsers say which page it was in `Origin` and `Sec-Fetch-Site`; other clients send
neither, and are not affected.

A page may also give its own name an address of this machine, so that the browser takes the server for the page's origin
(DNS rebinding). A server that listens on the loopback interface only therefore knows its own names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address

from attrs import define, frozen
from klein import Response
from werkzeug.exceptions import Forbidden

from kvtwist.validators import Headers

ORIGIN_HEADERS = frozenset(
    {b"origin", b"sec-fetch-site", b"access-control-request-method", b"access-control-request-headers"}
)
"""What a browser says of the page that made it send a request."""
SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that change nothing."""
EXPOSED = b"ETag, Kvtwist-Revision, Kvtwist-TTL, Kvtwist-Previous-ETag, Retry-After"
"""Headers of responses that pages of allowed origins may read, besides those that every page may."""
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_origin = re.compile(rb"(https?)://([^/?#@]+)").fullmatch
_are_tokens = re.compile(rb"[A-Za-z0-9_\-, \t]*").fullmatch


@frozen
class Sender:
    """
    The page that made a browser send a request.

    :ivar may_change: whether the request may change something.
    :ivar lines: header lines that let an allowed page of another origin read the response.
    :ivar preflight: the response if the browser asks beforehand what the page may send; else None.
    """

    may_change: bool
    lines: bytes = b""
    preflight: Headers | None = None

    def refuse(self, method: bytes) -> Forbidden | None:
        """The error for a request that may change something and must not."""
        if self.may_change or method in SAFE_METHODS:
            return None
        return Forbidden("web pages of another origin may change nothing here; --cors-origin allows them to")


@define
class Origins:
    """
    :param allowed: origins whose pages may do what other clients may, such as `https://app.example`.
    :ivar is_loopback: whether only clients on this machine can reach the server.
    """

    allowed: Collection[bytes] = ()
    is_loopback: bool = False

    def sender(self, host: bytes, headers: Mapping[bytes, bytes]) -> Sender:
        """
        Who has sent a request.

        :param host: its `Host`.
        :param headers: those of `ORIGIN_HEADERS` that it has, at least one.
        """
        origin = headers.get(b"origin", b"").lower()
        if origin in self.allowed:
            return Sender(True, _lines(origin), _preflight(headers))
        site = headers.get(b"sec-fetch-site", b"").lower()
        is_own = site in (b"same-origin", b"none") if site else not origin or _is_of(origin, host)
        return Sender(is_own and not (self.is_loopback and not _is_loopback_name(host)))


def is_origin(text: str) -> bool:
    """Whether a text is the origin of web pages: `https://name`, or `http://name:port`."""
    return _origin(text.encode("latin-1", "replace")) is not None


def _lines(origin: bytes) -> bytes:
    return b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: %b\r\nVary: Origin\r\n" % (
        origin,
        EXPOSED,
    )


def _preflight(headers: Mapping[bytes, bytes]) -> Headers | None:
    if b"access-control-request-method" not in headers:
        return None
    asked = headers.get(b"access-control-request-headers", b"")
    return {
        "Access-Control-Allow-Methods": "GET, HEAD, PUT, POST, DELETE",
        "Access-Control-Allow-Headers": asked if _are_tokens(asked) else b"",
        "Access-Control-Max-Age": "600",
    }


def answer_preflight(profile: object, request: object, headers: Headers) -> Response:
    """The handler of requests in which a browser asks what a page may send."""
    return Response(204, headers)


def _is_of(origin: bytes, host: bytes) -> bool:
    """Whether an origin is that of the server with a `Host`."""
    found = _origin(origin)
    if found is None:
        return False
    scheme, name = found.groups()
    port = _DEFAULT_PORTS[scheme]
    return bool(name.removesuffix(port) == host.lower().removesuffix(port))


def _is_loopback_name(host: bytes) -> bool:
    name = re.sub(rb":[0-9]*$", b"", host.lower()).strip(b"[]")
    if name == b"localhost" or name.endswith(b".localhost"):
        return True
    try:
        return ip_address(name.decode("latin-1")).is_loopback
    except ValueError:
        return False
