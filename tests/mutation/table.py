"""Which tests have to notice a fault in a module: the fast ones that are about it. And faults that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_TESTS: Final = {
    "kvtwist/profiles/_app.py": (
        "tests/unit/profiles/test_errors.py",
        "tests/unit/profiles/test_routes.py",
        "tests/http/test_every_route.py",
    ),
    "kvtwist/engine/memtable.py": ("tests/unit/engine/test_memtable.py",),
    "kvtwist/profiles/_byte_range.py": ("tests/http/test_native.py",),
    "kvtwist/profiles/_conditions.py": ("tests/unit/profiles/test_conditions.py", "tests/http/test_conditional.py"),
    "kvtwist/profiles/_glob.py": ("tests/unit/profiles/test_glob.py",),
    "kvtwist/profiles/_items.py": ("tests/http/test_native.py",),
    "kvtwist/profiles/_json.py": ("tests/unit/profiles/test_json.py", "tests/http/test_bad_json.py"),
    "kvtwist/profiles/_openapi.py": ("tests/openapi/test_document.py",),
    "kvtwist/profiles/_settings.py": ("tests/unit/test_options.py",),
    "kvtwist/profiles/_transactions.py": ("tests/http/test_native.py",),
    "kvtwist/profiles/clstr.py": ("tests/http/test_clstr.py", "tests/http/test_kv_paths.py"),
    "kvtwist/profiles/history.py": (
        "tests/http/test_history.py",
        "tests/http/test_history_paths.py",
        "tests/unit/profiles/test_history_store.py",
        "tests/http/test_conditional.py",
    ),
    "kvtwist/profiles/keys.py": (
        "tests/http/test_keys.py",
        "tests/http/test_keys_paths.py",
        "tests/http/test_keys_listing.py",
        "tests/unit/profiles/test_keys_store.py",
        "tests/http/test_conditional.py",
    ),
    "kvtwist/profiles/lsfr.py": (
        "tests/http/test_lsfr.py",
        "tests/http/test_kv_paths.py",
        "tests/http/test_conditional.py",
    ),
    "kvtwist/profiles/native.py": ("tests/http/test_native.py", "tests/http/test_conditional.py"),
    "kvtwist/profiles/transactional.py": (
        "tests/unit/profiles/test_commit_race.py",
        "tests/http/test_transactional.py",
        "tests/http/test_transactional_paths.py",
    ),
    "kvtwist/web/chunks.py": ("tests/unit/web/test_chunks.py",),
    "kvtwist/web/heads.py": ("tests/unit/web/test_heads.py",),
}
"""For other modules: the test module of the same name, and all unit tests of its package except the slow ones."""
_SLOW: Final = (
    "tests/unit/engine/test_model_property.py",
    "tests/unit/engine/test_page_property.py",
    "tests/unit/web/test_polled.py",
)

_MEASURED: Final = "a figure that was measured and rounded: one more or less is as good"
_SHORTCUT: Final = "a shortcut: is_target says the same, and takes longer"
_EMPTY_LINE: Final = "a head that begins with an empty line is a 400 one way or the other"
_ROOT: Final = 'if text[:1] != "/" and not is_target(target):'
_LINE: Final = "line = start if line_end < 0 else start[: line_end + 2]"
_FORM: Final = 'if not (_line(line) if line_end >= 0 else _line_so_far(line) or line == b"\\r"):'
_SIZE: Final = "size = end - at if end >= 0 else len(data) - at - 3"

EQUIVALENT: Final[dict[str, dict[tuple[str, str], str]]] = {
    "kvtwist/profiles/_json.py": {
        ("_SPAN = 64 * 1024", "_SPAN = 65 * 1024"): _MEASURED,
        ("_SPAN = 64 * 1024", "_SPAN = 63 * 1024"): _MEASURED,
        ("_SPAN = 64 * 1024", "_SPAN = 64 * 1025"): _MEASURED,
        ("_SPAN = 64 * 1024", "_SPAN = 64 * 1023"): _MEASURED,
    },
    "kvtwist/profiles/_listing.py": {
        ("PIECE = 64 * 1024", "PIECE = 64 * 1025"): _MEASURED,
        ("PIECE = 64 * 1024", "PIECE = 64 * 1023"): _MEASURED,
    },
    "kvtwist/profiles/_reply.py": {
        ("_CUT = 48 * 1024", "_CUT = 48 * 1025"): _MEASURED,
        ("_CUT = 48 * 1024", "_CUT = 48 * 1023"): _MEASURED,
    },
    "kvtwist/engine/memtable.py": {
        ("ENTRY_COST = 400", "ENTRY_COST = 399"): _MEASURED,
        ("ENTRY_COST = 400", "ENTRY_COST = 401"): _MEASURED,
        ("break", "continue"): "those that follow have not expired either: it takes longer, and says the same",
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
}
"""By module, the line as it is and as it would be: why nobody can tell the difference."""


def tests_of(path: str) -> tuple[str, ...]:
    """Arguments for pytest."""
    if path in _TESTS:
        return _TESTS[path]
    package = f"tests/unit/{Path(path).parts[1]}"
    own = f"{package}/test_{Path(path).stem.lstrip('_')}.py"
    return (*([own] if Path(own).exists() else []), package, *(f"--ignore={slow}" for slow in _SLOW))
