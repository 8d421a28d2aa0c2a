"""Signals beside those that stop a server, which are Twisted's: SIGHUP and SIGUSR1 reload, and never kill."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

log = Logger(namespace="kvtwist")

RELOADING: Final = (signal.SIGHUP, signal.SIGUSR1)
"""The second one is how twistd is asked to begin a new log."""


class Signals(Service):
    """What is read or opened anew when an operator asks for it. It is asked for between two events of the reactor."""

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._reloads: dict[str, Callable[[], object]] = {}

    def add(self, what: str, reload: Callable[[], object]) -> None:
        """
        Have something reloaded.

        :param what: what the log calls it.
        :param reload: must not block; what it raises is logged, and keeps nothing else from being reloaded.
        """
        self._reloads[what] = reload

    def privilegedStartService(self) -> None:
        """Handle the signals; they stay handled to the end of the process. Called in the main thread."""
        super().privilegedStartService()
        for number in RELOADING:
            signal.signal(number, self._asked)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            log.info("SIGINT is ignored, as it was when the server was started; SIGTERM stops it")

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reload, signal.Signals(number).name)

    def _reload(self, name: str) -> None:
        log.info("{name}: reloading {what}", name=name, what=", ".join(self._reloads) or "nothing, there is nothing to")
        for what, reload in self._reloads.items():
            try:
                reload()
            except Exception:
                log.failure("{what} could not be reloaded", what=what)
