"""One Chromium for all tests of a process, driven by playwright. It is Debian's: playwright's own is never downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.support.server import PATIENCE

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
_POLICY: Final = ("Content Security Policy", "Trusted", "Refused to")
"""What Chromium says on its console when a page breaks its policy."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to run as root with its sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Browser, **properties: Any) -> Iterator[Page]:
    """
    An empty tab with a storage of its own.

    :raises AssertionError: at the end, if a script failed or anything broke the policy.
    """
    context = browser.new_context(reduced_motion="reduce", **properties)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if any(part in message.text for part in _POLICY):
            said.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert not said
