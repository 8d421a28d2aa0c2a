"""The answer that is a backup, for the admin site and the console."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from klein import Response
from werkzeug.exceptions import NotFound

from kvtwist.interfaces import IBackups
from kvtwist.profiles._scan import send

_NO_MORE: Mapping[str, str] = MappingProxyType({})


async def answer_backup(request: Any, backups: IBackups, more: Mapping[str, str] = _NO_MORE) -> Response | None:
    """
    Answer with a tar archive of the store at one revision; unpacked, it is a working directory.

    :param more: further headers.
    :raises NotFound: the store is in memory.
    """
    backup = await backups.backup()
    if backup is None:
        raise NotFound("the store is in memory")
    try:
        request.setHeader("Content-Type", "application/x-tar")
        request.setHeader("Content-Length", str(backup.size))
        request.setHeader("Kvtwist-Revision", str(backup.revision))
        for name, value in more.items():
            request.setHeader(name, value)
        if request.method != b"HEAD":
            await send(request, backup.archive())
    finally:
        await backup.close()
    return None
