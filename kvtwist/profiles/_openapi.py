"""
The OpenAPI document of the `native` profile, for code generators, validators and API explorers.

It is written by hand, with the limits of the server filled in. Tests compare it with the routes, and cause each status
that it names. Optional headers are described only where a client would otherwise not know of them.
"""

from __future__ import annotations

from typing import Any

from kvtwist import __version__
from kvtwist.model import JSON, OCTETS, TEXT
from kvtwist.profiles._conditions import PRECONDITION
from kvtwist.profiles._settings import Settings
from kvtwist.profiles._transactions import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_RANGES,
    MAX_REVISION,
    MAX_TTL_SECONDS,
    MEDIA_TYPE,
)

Json = dict[str, Any]

NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"
MAX_WAIT_SECONDS = 60
_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

_DESCRIPTION = """\
A durable key-value store: values of any media type, conditional writes, listings, transactions and a watch.

A *revision* numbers the transactions of the store. The revision of a record is that of the transaction that wrote it,
and its entity tag. Times are milliseconds since the epoch. A key may hold `/`, as it is or percent-encoded.

Unknown query parameters are 400, except with GET and HEAD, which ignore them. What is not HTTP or exceeds a limit of
the HTTP server is answered without a body: 400, 408, 413, 414, 431 or 503.
"""


def document(settings: Settings) -> Json:
    """The document, as it is encoded to JSON."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kvtwist, native profile",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/kv/{key}": {**_read(_GET_KEY, "206", "416"), "put": _PUT_KEY, "delete": _DELETE_KEY},
            "/v1/kv": {**_read(_LIST_KEYS), "delete": _DELETE_KEYS},
            "/v1/txn": {"post": _TRANSACT},
            "/v1/watch": _read(_WATCH),
            "/v1/status": _read(_STATUS),
            "/v1/openapi.json": _read(_described("describe")),
            "/openapi.json": _read(_described("describeAtRoot")),
            "/": _read(_WELCOME),
        },
        "components": {
            "schemas": _schemas(settings),
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "responses": _ERRORS,
        },
    }


def _read(get: Json, *only_get: str) -> Json:
    """GET, and HEAD like it; `only_get` are statuses that HEAD never has."""
    name: str = get["operationId"]
    responses = {status: response for status, response in get["responses"].items() if status not in only_get}
    head = {"operationId": f"{name}Head", "summary": "The headers of GET", "parameters": get["parameters"]}
    return {"get": get, "head": {**head, "responses": responses}}


def _schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameters(*names: str) -> list[Json]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _errors(*statuses: int) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _object(required: Json, optional: Json | None = None, **more: Any) -> Json:
    """The schema of an object that has no other members."""
    properties = {**required, **(optional or {})}
    made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required), **more}


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": schema}


# --- operations -------------------------------------------------------------------------------------------------------

_CONDITIONS = ("IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince")
_VALIDATORS = ("ETag", "Last-Modified", "Expires", "Kvtwist-TTL", "Kvtwist-Revision")
_ANY: Json = {"*/*": {"schema": {}}}


def _to(operation: str, key: str = "$request.path.key", **more: str) -> Json:
    """A link to an operation on a key."""
    return {"operationId": operation, "parameters": {"path.key": key, **more}}


_FIRST = "$response.body#/items/0/key"
_LINKS: Json = {
    "read": _to("getKey"),
    "replace": _to("putKey", **{"header.If-Match": "$response.header.ETag"}),
    "delete": _to("deleteKey", **{"header.If-Match": "$response.header.ETag"}),
}

_GET_KEY: Json = {
    "operationId": "getKey",
    "summary": "Read a value, or wait until it changes",
    "parameters": _parameters("Key", *_CONDITIONS, "Range", "IfRange", "Wait", "AfterRevision"),
    "responses": {
        "200": {
            "description": "The value, with the media type it was written with",
            "headers": _headers(*_VALIDATORS),
            "content": _ANY,
            "links": {name: _LINKS[name] for name in ("replace", "delete")},
        },
        "206": {
            "description": "A part of the value",
            "headers": _headers(*_VALIDATORS, "Content-Range"),
            "content": _ANY,
        },
        "304": {
            "description": "The client has this record; with `wait`: it has not changed",
            "headers": _headers("Kvtwist-Revision"),
        },
        **_errors(400, 404, 412, 416, 503),
    },
}
_PUT_KEY: Json = {
    "operationId": "putKey",
    "summary": "Write a value",
    "parameters": _parameters("Key", "Ttl", "Return", *_CONDITIONS),
    "requestBody": {
        "description": "The value. The record keeps its media type.",
        "content": {JSON: {"schema": {}}, TEXT: {"schema": {"type": "string"}}, OCTETS: {}, "*/*": {}},
    },
    "responses": {
        "200": {
            "description": "With `return=previous`: the key had this value",
            "headers": _headers("ETag", "Kvtwist-Previous-ETag"),
            "content": _ANY,
            "links": _LINKS,
        },
        "201": {"description": "The key is new", "headers": _headers("ETag"), "links": _LINKS},
        "204": {"description": "The value is replaced", "headers": _headers("ETag"), "links": _LINKS},
        **_errors(400, 403, 412, 413, 503, 507),
    },
}
_DELETE_KEY: Json = {
    "operationId": "deleteKey",
    "summary": "Delete a key",
    "parameters": _parameters("Key", *_CONDITIONS),
    "responses": {
        "204": {"description": "The key is deleted", "links": {"create": _to("putKey"), "read": _to("getKey")}},
        **_errors(400, 403, 404, 412, 503, 507),
    },
}
_LIST_KEYS: Json = {
    "operationId": "listKeys",
    "summary": "List keys, in the order of their bytes",
    "description": f"With `Accept: {NDJSON}` all of the listing, of any size; `limit` is 400 then.",
    "parameters": _parameters("Prefix", "After", "Before", "Limit", "Reverse", "KeysOnly"),
    "responses": {
        "200": {
            "description": "A page, as the store was at its revision; or all items, one in a line",
            "content": {JSON: {"schema": _schema("Page")}, NDJSON: {"schema": _schema("Item")}},
            "links": {
                "next": {"operationId": "listKeys", "parameters": {"after": "$response.body#/next"}},
                "read": _to("getKey", _FIRST),
                "replace": _to("putKey", _FIRST),
                "delete": _to("deleteKey", _FIRST),
            },
        },
        **_errors(400, 503),
    },
}
_DELETE_KEYS: Json = {
    "operationId": "deleteKeys",
    "summary": "Delete all keys with a prefix",
    "description": "In transactions of 500 keys. One of `prefix` and `all=true` is required.",
    "parameters": _parameters("Prefix", "All"),
    "responses": {
        "200": _json("How many keys were deleted", _object({"deleted": {"type": "integer", "minimum": 0}})),
        **_errors(400, 403, 503, 507),
    },
}
_TRANSACT: Json = {
    "operationId": "transact",
    "summary": "Do one of two lists of operations at one instant, or none",
    "requestBody": {"required": True, "content": {JSON: {"schema": _schema("Transaction")}}},
    "responses": {
        "200": {
            **_json("What was done, whether the conditions held or not", _schema("Outcome")),
            "links": {"read": _to("getKey", "$request.body#/then/0/put/key")},
        },
        **_errors(400, 403, 413, 503, 507),
    },
}
_WATCH: Json = {
    "operationId": "watch",
    "summary": "Changes as they become durable, as server-sent events",
    "description": """\
First a block with an `id` alone: the revision after which it tells. Then, in the order of revisions, `event: put` with
an `Item`, `event: delete` and `event: expire` with a `Change`, and `event: clear` with a `Change` without `key`. Only
the last event of a transaction has an `id`. `event: gone`, with the `oldest` possible revision, ends the response of a
client that was too slow. Comments are heartbeats.""",
    "parameters": _parameters("Prefix", "OneKey", "AfterRevision", "LastEventId"),
    "responses": {
        "200": {"description": "Events, without end", "content": {EVENTS: {"schema": {"type": "string"}}}},
        **_errors(400, 410, 503),
    },
}
_STATUS: Json = {
    "operationId": "status",
    "summary": "Version, revision and uptime of the server",
    "parameters": [],
    "responses": {"200": _json("The server can be reached", _schema("Status")), **_errors(400, 503)},
}


_WELCOME: Json = {
    "operationId": "welcome",
    "summary": "What this server is and where to go: a page for browsers, JSON for others",
    "parameters": [],
    "responses": {
        "200": {
            "description": "kvtwist",
            "content": {
                JSON: {"schema": {"type": "object"}},
                "text/html; charset=utf-8": {"schema": {"type": "string"}},
            },
        },
        **_errors(400, 503),
    },
}


def _described(operation: str) -> Json:
    return {
        "operationId": operation,
        "summary": "This document",
        "parameters": [],
        "responses": {"200": _json("OpenAPI 3.1", {"type": "object"}), **_errors(400, 503)},
    }


# --- components -------------------------------------------------------------------------------------------------------

_TAGS = {"type": "string", "pattern": PRECONDITION, "examples": ['"17"', "*"]}
_PARAMETERS: Json = {
    "Key": {"name": "key", "in": "path", "required": True, "schema": _schema("Key")},
    "IfMatch": _header("If-Match", "The record has one of these tags; `*`: there is one", _TAGS),
    "IfNoneMatch": _header("If-None-Match", "The record has none of these tags; `*`: there is none", _TAGS),
    "IfModifiedSince": _header("If-Modified-Since", "An HTTP date; ignored if it is none", {"type": "string"}),
    "IfUnmodifiedSince": _header("If-Unmodified-Since", "An HTTP date; ignored if it is none", {"type": "string"}),
    "Range": _header("Range", "One range of bytes; ignored if it is anything else", {"type": "string"}),
    "IfRange": _header("If-Range", "`Range` counts only for the record with this tag or date", {"type": "string"}),
    "LastEventId": _header("Last-Event-ID", "Instead of `after`, which it precedes", {"type": "string"}),
    "Ttl": _query("ttl", "Seconds until the record expires", _schema("Ttl")),
    "Return": _query("return", "Answer with the value that was there", {"enum": ["previous"]}),
    "Wait": _query(
        "wait",
        "Seconds to wait until the record has changed: 200, or 404 once it is deleted, or else 304",
        {"type": "integer", "minimum": 1, "maximum": MAX_WAIT_SECONDS},
    ),
    "AfterRevision": _query("after", "Changes after this revision; without it, the current one", _schema("Revision")),
    "OneKey": _query("key", "Instead of a prefix", _schema("Key")),
    "Prefix": _query("prefix", "What the keys begin with", {"type": "string"}),
    "After": _query("after", "Only keys after this one, in the order of the listing", {"type": "string"}),
    "Before": _query("before", "Only keys before this one, in the order of the listing", {"type": "string"}),
    "Limit": _query(
        "limit",
        "The most items of a page, which ends earlier at about one mebibyte",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    "Reverse": _query("reverse", "In descending order", {"type": "boolean", "default": False}),
    "KeysOnly": _query("keys_only", "Leave out the values", {"type": "boolean", "default": False}),
    "All": _query("all", "Delete all keys, without a prefix", {"type": "boolean", "default": False}),
}

_HEADERS: Json = {
    "ETag": {"description": "The record's revision", "schema": {"type": "string", "pattern": '^"[0-9]+"$'}},
    "Last-Modified": {"description": "When it was written", "schema": {"type": "string"}},
    "Expires": {"description": "When it expires", "schema": {"type": "string"}},
    "Kvtwist-TTL": {"description": "Seconds until it expires, rounded up", "schema": {"type": "integer"}},
    "Kvtwist-Revision": {"description": "With `wait`: `after` of the next request", "schema": {"type": "integer"}},
    "Kvtwist-Previous-ETag": {
        "description": "The tag of the value that was there",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Content-Range": {"description": "Which part it is", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds", "schema": {"type": "integer"}},
}


def _error(description: str, *headers: str, schema: str = "Problem") -> Json:
    answer = {"description": description, "content": {PROBLEM: {"schema": _schema(schema)}}}
    return {**answer, "headers": _headers(*headers)} if headers else answer


_ERRORS: Json = {
    "400": _error("The request is wrong; `detail` says where"),
    "403": _error("A web page of another origin sent it, which `--cors-origin` does not allow"),
    "404": _error("There is no such key"),
    "410": _error("Changes after that revision are not kept any more, or it is in the future", schema="Gone"),
    "412": _error("A precondition does not hold; nothing was written"),
    "413": _error("A value, or what a transaction reads or does, is too large"),
    "416": _error("The value has no such range", "Content-Range"),
    "503": _error("The store cannot do this now, or the server is busy", "Retry-After"),
    "507": _error("There is no space for this write; nothing was written"),
}


def _schemas(settings: Settings) -> Json:
    key, revision, ttl, media_type = map(_schema, ("Key", "Revision", "Ttl", "MediaType"))
    boolean, text, time = {"type": "boolean"}, {"type": "string"}, {"type": "integer", "minimum": 0}
    values: Json = {
        "value": {"description": "JSON, if content_type says so; otherwise a string"},
        "value_base64": {**text, "contentEncoding": "base64", "description": "if the value is not UTF-8"},
    }
    about: Json = {"content_type": media_type, "revision": revision, "modified": time}
    problem: Json = {
        "type": {"const": "about:blank"},
        "title": {"type": "string", "description": "What the status line says"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "Why"},
    }
    return {
        "Key": {
            "type": "string",
            "minLength": 1,
            "maxLength": settings.max_key,
            "description": f"Up to {settings.max_key} bytes of UTF-8",
        },
        "Revision": {"type": "integer", "minimum": 0, "maximum": MAX_REVISION},
        "Ttl": {"type": "integer", "minimum": 1, "maximum": MAX_TTL_SECONDS},
        "MediaType": {"type": "string", "pattern": MEDIA_TYPE, "maxLength": 255},
        "Item": {
            "description": "A record; without a value in a listing with `keys_only`",
            **_object({"key": key, **about, "expires": {"type": ["integer", "null"], "minimum": 0}}, values),
            "not": {"required": list(values)},
        },
        "Page": _object(
            {
                "revision": {**revision, "description": "The last transaction that the page shows"},
                "items": {"type": "array", "items": _schema("Item"), "maxItems": MAX_LIMIT},
                "next": {"type": ["string", "null"], "description": "If there may be more: `after` of the next page"},
            }
        ),
        "Transaction": _object(
            {},
            {
                "if": {"type": "array", "items": _schema("Condition"), "description": "All have to hold"},
                "then": {**_schema("Branch"), "description": "Is done if they hold"},
                "else": {**_schema("Branch"), "description": "Is done if they do not"},
            },
            description=f"At most {settings.max_operations} conditions and operations",
        ),
        "Condition": _object(
            {"key": key},
            {"revision": {**revision, "description": "0: there is no such key"}, "exists": boolean},
            oneOf=[{"required": ["revision"]}, {"required": ["exists"]}],
        ),
        "Branch": {
            "type": "array",
            "description": "Ranges come before puts and deletions: they show the store before the transaction.",
            "items": _schema("Operation"),
            "contains": {"type": "object", "required": ["range"]},
            "minContains": 0,
            "maxContains": MAX_RANGES,
        },
        "Operation": _object(
            {},
            {
                "put": _object(
                    {"key": key},
                    {
                        "value": text,
                        "value_base64": {**text, "contentEncoding": "base64", "pattern": _BASE64},
                        "json": {},
                        "content_type": media_type,
                        "ttl": ttl,
                    },
                    oneOf=[{"required": [name]} for name in ("value", "value_base64", "json")],
                    dependentSchemas={"json": {"properties": {"content_type": {"const": JSON}}}},
                ),
                "delete": _object({"key": key}),
                "get": _object({"key": key}),
                "range": _object(
                    {},
                    {
                        **dict.fromkeys(("prefix", "after", "before"), text),
                        **dict.fromkeys(("reverse", "keys_only"), boolean),
                        "limit": _PARAMETERS["Limit"]["schema"],
                    },
                ),
            },
            minProperties=1,
            maxProperties=1,
        ),
        "Outcome": _object(
            {
                "committed": {**boolean, "description": "Whether the conditions held"},
                "revision": {**revision, "description": "Of the transaction; of the last one if it changed nothing"},
                "results": {"type": "array", "items": _schema("Result"), "description": "One for each operation"},
            }
        ),
        "Result": {
            "oneOf": [
                {**_object({"revision": revision}), "description": "Of a put"},
                {**_object({"deleted": boolean}), "description": "Of a deletion: whether there was the key"},
                {**_schema("Item"), "description": "Of a get"},
                {"type": "null", "description": "Of a get, if there is no such key"},
                {
                    **_object(
                        {
                            "items": {"type": "array", "items": _schema("Item"), "maxItems": MAX_LIMIT},
                            "next": {"type": ["string", "null"]},
                        }
                    ),
                    "description": "Of a range",
                },
            ]
        },
        "Change": _object({"revision": revision, "modified": time}, {"key": key}),
        "Status": _object({"version": text, "revision": revision, "uptime": {"type": "integer", "minimum": 0}}),
        "Problem": _object(problem),
        "Gone": _object({**problem, "oldest": revision}),
    }
