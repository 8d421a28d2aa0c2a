"""Which tests have to notice a fault in a module: the fast ones that are about it. And faults that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_TESTS: Final = {
    "engine": """
        admission: admission large_transactions memory_limit faults limits offline disk_space
        backlog: changes changes_property
        backup: backup
        changes: changes changes_property http/watch
        checkpoint: service admission memory_limit faults checkpoint disk_space
        checkpointer: admission memory_limit record_cache expiry faults disk_space checkpoint compactor
        commit: commit large_transactions service memory_limit backup faults disk_space checkpoint
        compaction: compaction reading compactor
        compactor: compactor faults disk_space cli/dump_stats_compact
        disk: disk service offline threads faults disk_space
        disk_space: disk_space memory_limit offline faults compactor
        disk_state: backup faults thinning compactor checkpoint
        events: changes changes_property http/watch
        expiry: changes changes_property expiry
        frame: frame journal backup faults thinning
        housekeeping: housekeeping memory_limit memory_store expiry limits large_transactions faults disk_space checkpoint
        inspection/contents: cli/dump_stats_compact repairs cli/messages cli/swapped_files
        inspection/diagnosis: diagnosis inspection cli/check cli/messages cli/swapped_files cli/repair
        inspection/directory: inspection diagnosis cli/check cli/messages cli/bad_input faults cli/repair
        inspection/findings: diagnosis inspection
        inspection/folding: repairs cli/repair cli/damage
        inspection/journal_reading: diagnosis cli/check cli/bad_input cli/swapped_files cli/repair
        inspection/page_faults: inspection diagnosis cli/check
        inspection/readonly: inspection diagnosis
        inspection/salvage: inspection repairs diagnosis cli/messages cli/dump_stats_compact
        journal: journal commit backup faults disk_space
        keyspace: record_cache memory_store housekeeping large_transactions expiry reading store faults memory_limit checkpoint
        latch: large_transactions commit service
        limits: memory_limit limits record_cache
        lock: lock service inspection
        manifest: manifest backup faults thinning compactor cli/swapped_files
        memtable: memtable memory_store record_cache expiry large_transactions store faults
        offline: offline cli/dump_stats_compact cli/messages cli/bad_input cli/export_import
        operations: operations memory_store commit large_transactions store disk_space
        page: pages record_cache inspection diagnosis cli/messages store page_property
        page_loader: record_cache service store limits
        pages: pages record_cache diagnosis threads thinning
        reading: reading expiry large_transactions store
        reads: service record_cache backup threads expiry store
        recent: changes changes_property
        record_cache: record_cache reading store
        recovery: journal backup service diagnosis cli/check cli/bad_input cli/swapped_files
        repair: repairs cli/repair cli/messages faults cli/damage
        run_writer: run_writer steps compaction expiry faults thinning compactor checkpoint
        segment: journal service backup
        service: service
        sorted_run: sorted_run record_cache reading expiry threads store
        storage: service backup faults offline journal cli/repair
        store: store large_transactions memory_limit backup memory_store reading expiry faults limits
        thinning: thinning faults limits disk_space
        timeline: timeline offline expiry faults
        watchers: changes changes_property
        waiters: service admission large_transactions
        worker: threads service
    """,
    "web": """
        account: request_memory refused phases time_limits
        chunks: chunks reader refused requests
        connection: connection refused phases request_memory time_limits site interfaces pipelines requests polled
        deadlines: time_limits refused phases
        dispatch: phases request_memory refused requests time_limits
        front: site interfaces refused connection phases request_memory time_limits http/several_profiles pipelines polled
        heads: heads refused reader phases http/conditional requests time_limits
        limits: options
        origins: origins http/origins
        outbox: outbox refused phases request_memory connection time_limits pipelines polled
        poller: poller site interfaces refused pipelines polled
        reader: reader refused phases request_memory time_limits requests
        refusal: refused phases time_limits
        replies: replies refused phases
        request: phases request_memory connection refused http/conditional time_limits requests
        request_memory: request_memory outbox refused phases
        routing: routing refused site phases profiles/routes requests
        service: service sockets site
        sockets: sockets interfaces service
        transports: transports refused phases connection
    """,
    "profiles": """
        _app: errors routes web/routing http/shared_data http/every_route http/conditional http/keys http/native
        _byte_range: http/native http/conditional http/every_route
        _conditions: conditions http/conditional http/several_profiles
        _glob: glob keys_store http/keys_listing
        _items: http/native http/every_route http/foreign_records
        _json: values json http/bad_json http/native
        _listing: listing history_store http/history http/keys_listing http/native
        _openapi: openapi/document
        _reply: values http/conditional http/head http/transactional listing http/foreign_records
        _scan: interfaces commit_race values listing staging http/history
        _settings: options keys_store staging
        _steps: keys_at_once staging values http/keys http/native
        _transactions: transactions routes http/native http/every_route http/conditional
        _watch: http/watch http/foreign_records
        admin: admin interfaces
        clstr: clstr http/clstr http/kv_paths http/conditional
        history: history_store http/history http/history_paths http/conditional interfaces http/every_route http/foreign_records
        keys: keys_store keys_at_once largest_requests http/keys http/keys_paths http/keys_listing http/conditional interfaces http/foreign_records
        lsfr: clstr http/lsfr http/kv_paths http/conditional interfaces
        native: routes native_store largest_requests http/native http/conditional interfaces http/every_route http/foreign_records
        transactional: commit_race staging largest_requests http/transactional interfaces http/every_route
    """,
}
"""
By package, its modules with their test modules, those first that are the nearest and fastest. A name is one in the
package's directory of `tests/unit`, or has another directory before it.
"""

ROUNDED: Final[dict[str, tuple[str, ...]]] = {
    "kvtwist/engine/admission.py": ("STEP_SECONDS = 0.005",),
    "kvtwist/engine/commit.py": ("CHANGE_COST = 400",),
    "kvtwist/engine/compactor.py": ("PURGE_SECONDS = 60.0", "THIN_SECONDS = 10.0"),
    "kvtwist/engine/disk.py": ("DESCRIPTORS = 8",),
    "kvtwist/engine/disk_space.py": ("RESERVE = 16 * 2**20",),
    "kvtwist/engine/frame.py": ("PIECE = 2**18",),
    "kvtwist/engine/housekeeping.py": ("SWEEP_RECORDS = 1000", "MAKE_SPACE_SECONDS = 0.25", "INDEX_COST = 330"),
    "kvtwist/engine/journal.py": ("EXTENT = 2**20", "SPARE_SIZE = 16 * 2**20"),
    "kvtwist/engine/limits.py": (
        *("pages: int = 120 * MIB", "memtables: int = 51 * MIB", "unsynced: int = 13 * MIB", "journal: int = 64 * MIB"),
        *("slice_entries: int = 4000", "step: int = 500", "results: int = 16 * MIB"),
    ),
    "kvtwist/engine/memtable.py": ("ENTRY_COST = 400",),
    "kvtwist/engine/page.py": ("LANDMARKS = 16", "_SEARCHED = 8 * 1024", "_SHARED_COST = 400"),
    "kvtwist/engine/record_cache.py": ("RECORD_COST = 400", "_LARGEST = 4096"),
    "kvtwist/engine/run_writer.py": ("PAGE_SIZE = 64 * 1024", "STEP = 1000"),
    "kvtwist/engine/store.py": ("GATHERING = 4",),
    "kvtwist/profiles/_json.py": ("_WINDOW = 16 * 1024", "_SPAN = 64 * 1024"),
    "kvtwist/profiles/_listing.py": ("PIECE = 64 * 1024",),
    "kvtwist/profiles/_reply.py": ("LARGE = 16 * 1024",),
    "kvtwist/profiles/_steps.py": ("_SPAN = 64 * 1024", "STEP = 256"),
    "kvtwist/profiles/_transactions.py": ("_SPAN = 64 * 1024",),
    "kvtwist/profiles/keys.py": ("DELETED_AT_ONCE = 500",),
    "kvtwist/profiles/native.py": ("DELETED_AT_ONCE = 500", "RANGING = 4"),
    "kvtwist/profiles/transactional.py": ("CHANGE_COST = 1000",),
    "kvtwist/web/dispatch.py": ("_MOST_IDLE = 256",),
    "kvtwist/web/heads.py": ("_KEPT = 1024", "_KEPT_BYTES = 1024"),
    "kvtwist/web/outbox.py": ("_SMALL = 4 * 1024", "_GATHERED = 64", "_PIECE = 64 * 1024", "_AT_ONCE = 4 * 2**20"),
    "kvtwist/web/poller.py": ("_MOST = 64", "_READ = 64 * 1024"),
    "kvtwist/web/reader.py": ("_LOGGED = 1024",),
    "kvtwist/web/request.py": ("_COPIED = 64 * 1024", "_PIECE = 16 * 1024"),
    "kvtwist/web/request_memory.py": (
        *("REQUEST_COST = 4096", "LARGE = 64 * 1024", "SHARE_LEFT = 8", "STALLED_SECONDS = 1.0"),
        "URGENT_BYTES = 2**20",
    ),
}
"""Lines with a figure that was chosen by measurements and rounded: another one near by is as good."""

_FIGURE: Final = "near a figure that was chosen by measurements, either way is as good"
_GENEROUS: Final = "more than a body can be needed for"
_SHORTCUT: Final = "a shortcut: the long way comes to the same"
_NOTHING_TO_GIVE: Final = "nothing is given back"
_EMPTY_LINE: Final = "a head that begins with an empty line is a 400 one way or the other"
_SET_BEFORE: Final = "it is set before it is read"
_ONE_OF_MANY: Final = "another one of so many"
_ONLY_ELEMENT: Final = "there is one element"
_ROOT: Final = 'if text[:1] != "/" and not is_target(target):'
_LINE: Final = "line = start if line_end < 0 else start[: line_end + 2]"
_FORM: Final = 'if not (_line(line) if line_end >= 0 else _line_so_far(line) or line == b"\\r"):'
_SIZE: Final = "size = end - at if end >= 0 else len(data) - at - 3"
_FAST: Final = (
    "if reader.state is IDLE and self._phase is READING and len(data) <= reader.short and not self.outbox.blocked:"
)
_NATIVE_BODY: Final = "self.max_body = 2 * settings.max_value + 6 * settings.max_key + 64 * 1024"
_STAGED_BODY: Final = "self.max_body = settings.max_value + 6 * settings.max_key + 1024"
_KEYS_BODY: Final = "self.max_body = settings.max_value + 6 * MAX_KEY + 1024"

EQUIVALENT: Final[dict[str, dict[tuple[str, str], str]]] = {
    "kvtwist/profiles/_json.py": {
        (
            "if len(elements) % STEP == 0 or at - mark > _SPAN:",
            "if len(elements) % STEP == 1 or at - mark > _SPAN:",
        ): _ONE_OF_MANY,
    },
    "kvtwist/profiles/_reply.py": {
        ("_CUT = 48 * 1024", "_CUT = 48 * 1025"): _FIGURE,
        ("_CUT = 48 * 1024", "_CUT = 48 * 1023"): _FIGURE,
    },
    "kvtwist/profiles/_steps.py": {("_SPAN = 64 * 1024", "_SPAN = 64 + 1024"): _FIGURE},
    "kvtwist/profiles/_transactions.py": {
        ("size = 0", "size = -1"): _FIGURE,
        ("size = 0", "size = 1"): _FIGURE,
        ("if at % STEP == STEP - 1 or size > _SPAN:", "if at % STEP == STEP - 2 or size > _SPAN:"): _ONE_OF_MANY,
    },
    "kvtwist/profiles/admin.py": {("max_body = 0", "max_body = -1"): "a body of no bytes is no body"},
    "kvtwist/profiles/keys.py": {
        (_KEYS_BODY, _KEYS_BODY.replace("6", "7")): _GENEROUS,
        (_KEYS_BODY, _KEYS_BODY.replace("1024", "1025")): _GENEROUS,
        (_KEYS_BODY, _KEYS_BODY.replace("1024", "1023")): _GENEROUS,
    },
    "kvtwist/profiles/native.py": {
        (_NATIVE_BODY, _NATIVE_BODY.replace("2 *", "3 *")): _GENEROUS,
        (_NATIVE_BODY, _NATIVE_BODY.replace("6 *", "7 *")): _GENEROUS,
        (_NATIVE_BODY, _NATIVE_BODY.replace("64 *", "65 *")): _GENEROUS,
        (_NATIVE_BODY, _NATIVE_BODY.replace("64 *", "63 *")): _GENEROUS,
        (_NATIVE_BODY, _NATIVE_BODY.replace("1024", "1025")): _GENEROUS,
        (_NATIVE_BODY, _NATIVE_BODY.replace("1024", "1023")): _GENEROUS,
        (
            'asked = range_of(prefix or "", None, None, MAX_LIMIT, reverse=False)',
            'asked = range_of(prefix or "", None, None, MAX_LIMIT, reverse=True)',
        ): "all of them are deleted, from either end",
    },
    "kvtwist/profiles/transactional.py": {
        (_STAGED_BODY, _STAGED_BODY.replace("6 *", "7 *")): _GENEROUS,
        (_STAGED_BODY, _STAGED_BODY.replace("1024", "1025")): _GENEROUS,
        (_STAGED_BODY, _STAGED_BODY.replace("1024", "1023")): _GENEROUS,
    },
    "kvtwist/engine/compactor.py": {
        (
            "known, thinned_at = self._thinned.get(name, ([], -1))",
            f"known, thinned_at = self._thinned.get(name, ([], {other}))",
        ): "without runs there is nothing to thin"
        for other in ("+1", "- 2", "- 0")
    },
    "kvtwist/engine/disk.py": {("in_its_place = -1", "in_its_place = - 2"): "neither is a descriptor"},
    "kvtwist/engine/frame.py": {
        (
            "if start > len(data) or _CHECKSUM.unpack_from(data, start - _CHECKSUM.size)[0] != _checksum(head, salt):",
            "if start > len(data) or _CHECKSUM.unpack_from(data, start - _CHECKSUM.size)[ -1] != _checksum(head, salt):",
        ): _ONLY_ELEMENT,
    },
    "kvtwist/engine/memtable.py": {
        ("break", "continue"): "those that follow have not expired either: it takes longer, and says the same",
    },
    "kvtwist/engine/offline.py": {
        ("store.start()", "pass"): "it starts threads that are none, and a clock that stands still",
    },
    "kvtwist/engine/store.py": {("break", "continue"): "one condition that does not hold is as many as several"},
    "kvtwist/web/account.py": {
        ("if more < 0:", "if more <= 0:"): _NOTHING_TO_GIVE,
        ("if more < 0:", "if more < 1:"): _NOTHING_TO_GIVE,
    },
    "kvtwist/web/connection.py": {
        (_FAST, _FAST.replace("<=", "<")): _SHORTCUT,
        (
            "transport.registerProducer(self, True)",
            "transport.registerProducer(self, False)",
        ): "the front pauses and resumes it itself",
        ("self._paused = False", "pass"): "the transport is told once more to read",
        ("self.deadline = NEVER", "pass"): "a connection that is gone is aborted once more",
    },
    "kvtwist/web/heads.py": {
        (_ROOT, _ROOT.replace("[:1]", "[: 0]")): _SHORTCUT,
        (_ROOT, _ROOT.replace("[:1]", "[: 2]")): _SHORTCUT,
        (_LINE, _LINE.replace("< 0", "< 1")): _EMPTY_LINE,
        (_LINE, _LINE.replace("< 0", "<= 0")): _EMPTY_LINE,
        (
            _LINE,
            _LINE.replace("+ 2", "+ 3"),
        ): "a line that is whole is matched from its start; its length matters before",
        (_FORM, _FORM.replace(">= 0", "> 0")): _EMPTY_LINE,
        (_FORM, _FORM.replace(">= 0", ">= 1")): _EMPTY_LINE,
        (_SIZE, _SIZE.replace(">= 0", "> 0")): _EMPTY_LINE,
        (_SIZE, _SIZE.replace(">= 0", ">= 1")): _EMPTY_LINE,
    },
    "kvtwist/web/outbox.py": {
        (
            "if len(data) > _SMALL or len(pieces) >= _GATHERED:",
            "if len(data) > _SMALL or len(pieces) > _GATHERED:",
        ): _FIGURE,
        (
            "if len(data) > _SMALL or len(pieces) >= _GATHERED:",
            "if len(data) >= _SMALL or len(pieces) >= _GATHERED:",
        ): _FIGURE,
        ("elif len(pieces[-1]) > LARGE:", "elif len(pieces[-1]) >= LARGE:"): _FIGURE,
        ("if more < 0:", "if more <= 0:"): _NOTHING_TO_GIVE,
        ("if more < 0:", "if more < 1:"): _NOTHING_TO_GIVE,
    },
    "kvtwist/web/reader.py": {
        ("if self._at < len(kept):", "if self._at <= len(kept):"): "nothing is kept",
        ("if end < 0 or end - at > self.short:", "if end < 0 or end + at > self.short:"): _SHORTCUT,
        (
            "self._seen = max(len(data) - at - 3, 0)",
            "self._seen = max(len(data) - at - 4, 0)",
        ): "a byte is searched once more",
    },
    "kvtwist/web/replies.py": {("self._moment = -1.0", "self._moment = - 2.0"): "no clock says either"},
    "kvtwist/web/request.py": {("elif size <= _COPIED:", "elif size < _COPIED:"): _FIGURE},
    "kvtwist/web/sockets.py": {
        (
            'descriptor = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)',
            'descriptor = os.open(directory or ".", os.O_PATH & os.O_DIRECTORY | os.O_CLOEXEC)',
        ): "only for a directory that may be entered and not read, and root may read all",
    },
}
"""By module, the line as it is and as it would be: why nobody can tell the difference."""


def tests_of(path: str) -> list[str]:
    """Arguments for pytest."""
    _, package, *rest = Path(path).with_suffix("").parts
    module = "/".join(rest)
    for row in _TESTS.get(package, "").split("\n"):
        name, _, tests = row.strip().partition(": ")
        if name == module:
            return [_file(package, test) for test in tests.split()]
    return [f"tests/unit/{package}"]


def _file(package: str, test: str) -> str:
    *directory, name = test.split("/")
    places = (f"tests/unit/{'/'.join(directory) or package}", "tests/http", "tests/unit")
    return next(file for place in places if Path(file := f"{place}/test_{name}.py").exists())
