"""SIGHUP and SIGUSR1 reload, and never end the process. (Twisted handles the signals that stop a server.)"""

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
"""twistd reopens its log on SIGUSR1."""


class Signals(Service):
    """Reloads things on a signal, in the reactor's thread."""

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._reloads: dict[str, Callable[[], object]] = {}

    def add(self, what: str, reload: Callable[[], object]) -> None:
        """
        Add something to reload.

        :param what: its name in the log.
        :param reload: must not block. Its exceptions are logged, and the others are still reloaded.
        """
        self._reloads[what] = reload

    def privilegedStartService(self) -> None:
        """Handle the signals until the process ends. Called in the main thread."""
        super().privilegedStartService()
        for number in RELOADING:
            signal.signal(number, self._asked)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            log.info("SIGINT is ignored, as inherited at the start; SIGTERM stops the server")

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reload, signal.Signals(number).name)

    def _reload(self, name: str) -> None:
        log.info("{name}: reloading {what}", name=name, what=", ".join(self._reloads) or "nothing")
        for what, reload in self._reloads.items():
            try:
                reload()
            except Exception:
                log.failure("could not reload {what}", what=what)
