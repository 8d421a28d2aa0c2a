"""Range requests (RFC 9110, 14): a part of a large value."""

from __future__ import annotations

import re
from typing import Any

from klein import Response
from twisted.web.http import stringToDatetime
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from kvtwist.model import Record
from kvtwist.validators import Headers, tagged

_range = re.compile(rb"bytes[ \t]*=[ \t]*([0-9]{0,20})-([0-9]{0,20})[ \t]*", re.IGNORECASE).fullmatch


def answer_range(request: Any, record: Record, headers: Headers) -> Response | None:
    """
    Answer a GET for one range of a value: 206. None means that the whole value is the answer.

    Several ranges, and ranges of other units than bytes, are ignored, as RFC 9110 allows.

    :raises RequestedRangeNotSatisfiable: the value is too short.
    """
    asked = request.getHeader(b"range")
    if asked is None or request.method != b"GET" or not _is_current(request.getHeader(b"if-range"), record):
        return None
    found = _range(asked)
    if found is None or not (found[1] or found[2]):
        return None
    size = len(record.value)
    if found[1]:
        start, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, last = max(0, size - int(found[2])), size - 1
    if start >= size:
        raise RequestedRangeNotSatisfiable(length=size)
    part = {**headers, "Content-Range": f"bytes {start}-{last}/{size}"}
    return Response(206, tagged(part, record.revision, record.modified_ms), record.value[start : last + 1])


def _is_current(validator: bytes | None, record: Record) -> bool:
    """Return whether `If-Range` names this record, so that the client may combine its parts (RFC 9110, 13.1.5)."""
    if validator is None:
        return True
    if validator.startswith((b'"', b"W/")):
        return validator == b'"%d"' % record.revision
    try:
        return bool(stringToDatetime(validator) == record.modified_ms // 1000)
    except (ValueError, LookupError):
        return False
