"""
`twistd kvstore`: reads the options and connects the packages. It computes nothing.

Every option is also an environment variable, `KVTWIST_` and its name (`KVTWIST_MAX_VALUE` for `--max-value`); the
command line takes precedence. `DATA_DIR` also sets the working directory, for the test harness of spec 004.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IAddress, IReactorCore, IReactorFromThreads, IReactorTime
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from kvtwist import __version__
from kvtwist.engine import Limits, Store, StoreService
from kvtwist.engine.disk import DESCRIPTORS, Disk
from kvtwist.engine.disk_space import RESERVE
from kvtwist.engine.storage import ADMIN_SOCKET, Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.worker import ThreadWorker
from kvtwist.interfaces import IProfile
from kvtwist.model import OperatorError
from kvtwist.ops.access import FORMATS, AccessLog
from kvtwist.ops.clock import run_timers_on_monotonic_time
from kvtwist.ops.lifecycle import OrderedServices, StartFailed
from kvtwist.ops.logs import LEVELS, Log, log_of
from kvtwist.ops.metrics import Metrics
from kvtwist.ops.signals import Signals
from kvtwist.ops.system import ADMIN_CONNECTIONS, connections_within, raise_file_limit, spare_collector
from kvtwist.profiles import PROFILES, Settings
from kvtwist.profiles.admin import Admin
from kvtwist.profiles.console import Console
from kvtwist.web import Dispatcher, FrontSite, HTTPService
from kvtwist.web.dispatch import Observer
from kvtwist.web.limits import WebLimits
from kvtwist.web.origins import Origins, is_origin
from kvtwist.web.request_memory import RequestMemory
from kvtwist.web.sockets import SocketEndpoint

log = Logger(namespace="kvtwist")

FORMER_LOGGER = "kvtwist.ops.logs.stdout"
"""A `twistd --logger` that earlier versions required and scripts still pass; the server now logs like that anyway."""
DEFAULT_PROFILE = "transactional"
DEFAULT_DIRECTORY = "kvtwist-data"
BACKLOG = 4096
ADMIN_TITLE = "Admin site"
ADMIN_MEMORY = 2**20
"""Request memory of the admin site, in bytes: its requests have no bodies."""


class Reactor(IReactorCore, IReactorFromThreads, IReactorTime):
    """The interfaces of the reactor that the server uses."""


_SIZE = re.compile(r"(\d+)\s*(|[kmg]i?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def size(text: str) -> int:
    """The bytes of a size such as `8MiB`, `64k` or `1000`; `k`, `m` and `g` are powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or int(found[1]) < 1:
        raise ValueError(f"a size such as 8MiB, 64KiB or 1000 is expected, not {text!r}")
    return int(found[1]) * _UNITS[found[2][:1].lower()]


def _size_within(low: int, high: int) -> Callable[[str], int]:
    def within(text: str) -> int:
        value = size(text)
        if not low <= value <= high:
            raise ValueError(f"a size from {low} to {high} bytes is expected, not {text!r}")
        return value

    return within


def port(text: str) -> int:
    """A TCP port; 0 for any free one."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f"a port from 0 to 65535 is expected, not {text!r}")
    return int(text)


def _number_within(low: int, high: int, what: str) -> Callable[[str], int]:
    def within(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
            raise ValueError(f"{what} from {low} to {high} is expected, not {text[:40]!r}")
        return int(text)

    return within


seconds = _number_within(1, 86_400, "a number of seconds")
clock_step = _number_within(1, 999_999_999, "a number of seconds")
connections = _number_within(1, 10_000_000, "a number")
operations = _number_within(1, 10_000_000, "a number")
head_size = _size_within(1024, 2**24)
target_size = _size_within(64, 2**24)
memory = _size_within(2**20, 2**50)
key_size = _size_within(1, 2**15)
log_size = _size_within(2**12, 2**30)


def _one_of(*choices: str) -> Callable[[str], str]:
    def choice(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)} is expected, not {text!r}")
        return text

    return choice


PARAMETERS: list[tuple[str, str | None, str | None, str, Callable[[str], object]]] = [
    ("port", "p", None, "TCP port. [default: that of the first profile]", port),
    ("interface", None, "127.0.0.1", "Address to listen on.", str),
    ("endpoint", None, None, "Twisted server endpoint string; replaces port and interface.", str),
    ("working-dir", "w", None, f"Directory of the store. [default: {DEFAULT_DIRECTORY}]", str),
    ("store", None, None, "Where data is kept: memory or dir. [default: the profile's]", _one_of("memory", "dir")),
    ("durability", None, "sync", "Acknowledge writes after fdatasync (sync) or write (os).", _one_of("sync", "os")),
    ("memory-limit", None, "256MiB", "Memory for cached pages and for changes since the last checkpoint.", memory),
    ("max-value", None, "8MiB", "Largest value.", size),
    ("max-key", None, "4KiB", "Largest key, if the profile's spec sets no limit.", key_size),
    ("max-staged", None, "64MiB", "Memory for staged changes, which wait for POST /commit; past it, 507.", size),
    ("max-operations", None, "10000", "Most keys or operations of one request; past it, 413.", operations),
    ("max-watches", None, "10000", "Most requests that wait for changes; past it, 503.", connections),
    ("max-in-flight", None, "128MiB", "Memory for all requests and their responses; past it, 503.", size),
    ("max-head", None, "64KiB", "Largest request head; past it, 431.", head_size),
    ("max-target", None, "16KiB", "Longest request target; past it, 414.", target_size),
    ("max-connections", None, "50000", "Most connections; past it, 503.", connections),
    ("head-timeout", None, "10", "Seconds that a request head may take; past it, 408.", seconds),
    ("body-timeout", None, "30", "Seconds that each 64 KiB of a body may take; past it, 408.", seconds),
    ("idle-timeout", None, "60", "Seconds to wait for a request, or for a client to read its response.", seconds),
    ("clock-step", None, "86400", "Largest forward jump of the clock to follow, in seconds.", clock_step),
    ("admin", None, None, "Endpoint of the admin site, or off. [default: a socket in the working directory]", str),
    ("access-log", None, "off", "Format of the access log: off, common or json.", _one_of("off", *FORMATS)),
    ("log-level", None, "info", f"Lowest level that is logged: {', '.join(LEVELS)}.", _one_of(*LEVELS)),
    ("log-buffer", None, "1MiB", "How much of the log may wait to be written; past it, lines are dropped.", log_size),
]
"""Name, letter, default, description, and the function that parses the value."""


class Options(usage.Options):
    """The options of `twistd kvstore`, a mapping of names to values."""

    synopsis = "[options]"
    longdesc = (
        "A durable key-value server. Every option is also an environment variable: for --max-value, KVTWIST_MAX_VALUE."
    )
    optParameters = [[name, letter, default, text] for name, letter, default, text, _ in PARAMETERS]
    optFlags = [["ui", None, "Serve the console at /ui/, and the native profile that it needs."]]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        for name, *_ in PARAMETERS:
            self[name] = environment.get(_variable(name), self[name])
        if self["working-dir"] is None:
            self["working-dir"] = environment.get("DATA_DIR")
        self["profile"] = []
        self["cors-origin"] = []
        self["ui"] = environment.get(_variable("ui"), "")
        self._environment = environment

    def opt_profile(self, name: str) -> None:
        """HTTP API: transactional, history, lsfr, clstr, keys or native; may be repeated. [default: transactional]"""
        if name not in PROFILES:
            raise usage.UsageError(f"no such profile: {name} (there are {', '.join(PROFILES)})")
        self["profile"].append(name)

    opt_P = opt_profile

    def opt_cors_origin(self, origin: str) -> None:
        """Origin whose web pages may use this server, such as https://app.example; may be repeated."""
        if not is_origin(origin):
            raise usage.UsageError(f"--cors-origin: an origin such as https://app.example is expected, not {origin!r}")
        self["cors-origin"].append(origin.lower())

    def opt_version(self) -> None:
        """Display kvtwist's version and exit."""
        print("kvtwist", __version__)
        sys.exit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse a command line.

        :raises usage.UsageError: it is invalid.
        :raises SystemExit: it is invalid, under twistd, which would print a page of help before the message.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if self.parent is None:
                raise
            sys.exit(f"kvtwist: {error} (see twistd kvstore --help)")

    def postOptions(self) -> None:
        """Parse the values, and set the defaults that depend on the profile."""
        if self.parent is not None and self.parent.get("logger") == FORMER_LOGGER:
            self.parent["logger"] = None
        for name, _, _, _, value_of in PARAMETERS:
            if self[name] is not None:
                try:
                    self[name] = value_of(self[name])
                except ValueError as error:
                    raise usage.UsageError(f"--{name}: {error}") from None
        self["ui"] = _switch(self["ui"])
        if not self["profile"]:
            for name in self._environment.get(_variable("profile"), DEFAULT_PROFILE).split(","):
                self.opt_profile(name.strip())
        if not self["cors-origin"]:
            for origin in filter(None, self._environment.get(_variable("cors-origin"), "").split(",")):
                self.opt_cors_origin(origin.strip())
        self._warn_of_unknown_variables()
        first = PROFILES[self["profile"][0]]
        if self["store"] is None:
            self["store"] = "dir" if self["working-dir"] else first.default_store
        if self["working-dir"] is None:
            self["working-dir"] = DEFAULT_DIRECTORY
        if self["port"] is None:
            self["port"] = first.default_port
        if self["endpoint"] is None:
            interface = quoteStringArgument(self["interface"])
            self["endpoint"] = f"tcp:{self['port']}:interface={interface}:backlog={BACKLOG}"

    def _warn_of_unknown_variables(self) -> None:
        known = [
            _variable("profile"),
            _variable("cors-origin"),
            _variable("ui"),
            CLIENT_VARIABLE,
            *(_variable(name) for name, *_ in PARAMETERS),
        ]
        for name in sorted(self._environment):
            if name.startswith("KVTWIST_") and name not in known:
                close = get_close_matches(name, known, 1, 0.85)
                hint = f"; did you mean {close[0]}?" if close else ""
                log.warn("unknown environment variable {name}{hint}", name=name, hint=hint)


CLIENT_VARIABLE = "KVTWIST_URL"
"""The server that the `kvtwist` command talks to."""


def _switch(value: object) -> bool:
    """Whether a flag is given: on the command line, or by its variable."""
    if value in (1, "1", "true"):
        return True
    if value in (0, "0", "false", ""):
        return False
    raise usage.UsageError(f"--ui: true or false is expected, not {value!r:.40}")


def _variable(option: str) -> str:
    return "KVTWIST_" + option.upper().replace("-", "_")


class Server(OrderedServices):
    """
    The whole server.

    :param server_log: writes the log; None if twistd or another application does.
    :param parts: the other services, in the order in which they start.
    """

    def __init__(
        self,
        reactor: Reactor,
        options: Mapping[str, Any],
        server_log: Log | None,
        parts: Sequence[IService],
        admin: HTTPService | None,
        http: HTTPService,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._options = options
        self._log = server_log
        self._admin = admin
        self._http = http
        for part in (server_log, *parts, admin, http):
            if part is not None:
                part.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Called with twistd's application, in which the log observer is registered."""
        if self._log is not None:
            parent.setComponent(ILogObserver, self._log)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """
        Open the store, and listen.

        :raises StartFailed: the reason has been printed and logged.
        """
        try:
            super().privilegedStartService()
        except StartFailed:
            if self._log is not None:  # the parent process of a daemon points to the log
                self._log.flush()
            raise

    def startService(self) -> None:
        """Serve, and log it once requests are answered and signals stop the server in order."""
        super().startService()
        self._reactor.callWhenRunning(self._started)

    def _started(self) -> None:
        if self._admin is not None and self._admin.address() is not None:
            log.info("{title} listening on {address}", title=ADMIN_TITLE, address=self._admin.address())
        where = ""
        if self._options["store"] == "memory":
            where = ", in memory"
            log.warn("NOTHING IS KEPT ON DISK: all data is lost when the server stops; use --store dir to keep it")
        if self._http.is_exposed:
            log.warn("anyone who can reach {url} can read and change all data", url=self._http.url())
        profiles = ", ".join(self._options["profile"])
        if self._options["ui"]:
            where += ", with a console at /ui/"
        log.info("kvtwist is serving {profiles} on {url}{where}", profiles=profiles, url=self._http.url(), where=where)

    def stopService(self) -> Deferred[None]:
        """Stop the services in order; fires when they have stopped."""
        log.info("asked to stop")
        return super().stopService().addCallback(self._stopped)

    def _stopped(self, nothing: None) -> None:
        log.info("stopped")
        if self._log is not None:
            self._log.flush()

    def addresses(self) -> list[IAddress]:
        """The addresses that the server listens on."""
        return self._http.addresses()


def makeService(options: Mapping[str, Any]) -> Server:
    """
    Make the server that the options describe. Only its log is opened before it is started.

    :raises SystemExit: with one line that says why it cannot be made.
    """
    try:
        return _server(options)
    except OperatorError as error:
        sys.exit(f"kvtwist: {error}")


def _server(options: Mapping[str, Any]) -> Server:
    from twisted.internet import reactor as any_reactor

    reactor = cast(Reactor, any_reactor)
    run_timers_on_monotonic_time(reactor)
    files = raise_file_limit()
    reactor.callWhenRunning(spare_collector)
    timeline = Timeline(step=options["clock-step"])
    storage = None
    if options["store"] == "dir":
        storage = Storage(
            options["working-dir"],
            Disk(DESCRIPTORS),
            journal_worker=ThreadWorker(reactor, "journal"),
            page_worker=ThreadWorker(reactor, "pages"),
            read_worker=ThreadWorker(reactor, "reads"),
            sync=options["durability"] == "sync",
            reserve=RESERVE,
        )
    store = Store(reactor, timeline, storage, Limits.within(options["memory-limit"]))
    server_log = _log(options)
    metrics = Metrics(store)
    started = reactor.seconds()
    served = [*options["profile"]]
    if options["ui"]:
        served += ["console"] if "native" in served else ["native", "console"]
    settings = Settings(
        max_value=options["max-value"],
        max_key=options["max-key"],
        max_staged=options["max-staged"],
        max_operations=options["max-operations"],
        max_watches=options["max-watches"],
        scrape=metrics.scrape,
        samples=metrics.samples,
        profiles=served,
        uptime=lambda: reactor.seconds() - started,
    )
    observers: list[Observer] = [metrics]
    access_log = None
    if options["access-log"] != "off":
        access_log = AccessLog(FORMATS[options["access-log"]], reactor)
        observers.append(access_log)
    profiles: list[IProfile] = [PROFILES[name](store, settings) for name in served if name in PROFILES]
    if options["ui"]:
        profiles.append(Console(store, store, settings, _facts(options)))
    dispatcher = Dispatcher(profiles, reactor, observers)
    request_memory = RequestMemory(options["max-in-flight"])
    dropped_lines = int if server_log is None else server_log.dropped
    for family, name, help_text, read in (
        (GaugeMetricFamily, "http_requests_in_flight", "Requests being answered.", lambda: dispatcher.active_requests),
        (GaugeMetricFamily, "http_in_flight_bytes", "Memory they hold.", lambda: request_memory.held),
        (CounterMetricFamily, "http_evictions", "Connections closed to free memory.", lambda: request_memory.evicted),
        (CounterMetricFamily, "log_dropped_lines", "Lines of the log that were dropped.", dropped_lines),
    ):
        metrics.watch(family, f"kvtwist_{name}", help_text, read)
    limits = WebLimits(
        head=options["max-head"],
        target=options["max-target"],
        head_seconds=options["head-timeout"],
        body_seconds=options["body-timeout"],
        idle_seconds=options["idle-timeout"],
        connections=connections_within(files, options["max-connections"]),
    )
    origins = Origins([origin.encode() for origin in options["cors-origin"]])
    site = FrontSite(dispatcher, reactor, request_memory, limits, origins=origins)

    signals = Signals(reactor)
    if server_log is not None:
        signals.add("the log", server_log.reopen)
    parts: list[IService] = [signals, StoreService(store, "memory" if storage is None else storage.path)]
    if access_log is not None:
        parts.append(access_log)
    admin = _admin(options, reactor, storage, Admin(store, store, settings), observers)
    return Server(reactor, options, server_log, parts, admin, HTTPService(reactor, options["endpoint"], site))


def _facts(options: Mapping[str, Any]) -> Mapping[str, object]:
    """What the console says of the server, and shows beside the figures."""
    names = (
        "store",
        "durability",
        "memory-limit",
        "max-in-flight",
        "max-value",
        "max-key",
        "max-staged",
        "max-watches",
    )
    return {name.replace("-", "_"): options[name] for name in names}


def _log(options: Mapping[str, Any]) -> Log | None:
    twistd = getattr(options, "parent", None)
    if twistd is None:  # part of another application, which has its own log
        return None
    return log_of(twistd, options["log-level"], options["log-buffer"])


def _admin(
    options: Mapping[str, Any], reactor: Reactor, storage: Storage | None, admin: Admin, observers: Sequence[Observer]
) -> HTTPService | None:
    endpoint = options["admin"]
    if endpoint == "off" or (endpoint is None and storage is None):
        return None
    limits = WebLimits(connections=ADMIN_CONNECTIONS)
    site = FrontSite(Dispatcher([admin], reactor, observers), reactor, RequestMemory(ADMIN_MEMORY), limits)
    if endpoint is not None:
        return HTTPService(reactor, endpoint, site, ADMIN_TITLE)
    assert storage is not None
    socket = SocketEndpoint(reactor, os.path.join(storage.path, ADMIN_SOCKET))
    return HTTPService(reactor, socket, site, ADMIN_TITLE, optional=True)
