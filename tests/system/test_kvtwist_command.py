"""The `kvtwist` command as a process: exit codes, pipes, signals, and a server before and after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvtwist.cli.export_format import PROGRESS
from kvtwist.engine.offline import opened
from kvtwist.model import DATA, Put, StoreError
from tests.support import template
from tests.support.server import PATIENCE, clean_environment, running
from tests.support.wire import ask

COMMAND = (sys.executable, "-m", "kvtwist")
HEADER = b'{"kvtwist_export":1,"revision":1}\n'


def kvtwist(*arguments: object, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end; there is never a traceback."""
    process = template.run("kvtwist", *map(str, arguments), environment=clean_environment({}), text=text)
    assert b"Traceback" not in process.stdout + process.stderr, process
    return process


def filled(path: Path, count: int = 100, value: bytes = b"value") -> Path:
    """A store with so many records."""
    with opened(str(path), create=True) as store:
        store.write([Put(DATA, b"%06d" % number, value, "text/plain") for number in range(count)])
    return path


def test_a_running_server_keeps_every_command_out_and_they_keep_out_a_server(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/a", b"1")
        process = kvtwist("check", tmp_path / "data")
        assert process.returncode == 3, process
        assert b"is in use by another server" in process.stderr
        assert ask(server.address, "GET", "/kv/a").body == b"1"
        server.stop()
    with opened(str(tmp_path / "data")) as store:
        with pytest.raises(AssertionError, match="in use"), running(tmp_path / "data"):
            pass
        assert [key for key, _ in store.scan(DATA)] == [b"a"]


def test_what_was_exported_from_one_server_is_served_by_another(tmp_path: Path) -> None:
    with running(tmp_path / "one", "--profile", "lsfr") as server:
        for number in range(20):
            ask(server.address, "PUT", f"/kv/{number}", b"value %d" % number)
        server.kill()
    assert kvtwist("export", tmp_path / "one", tmp_path / "file").returncode == 0
    assert kvtwist("import", "--create", tmp_path / "two", tmp_path / "file").returncode == 0
    with running(tmp_path / "two", "--profile", "lsfr") as server:
        for number in range(20):
            assert ask(server.address, "GET", f"/kv/{number}").body == b"value %d" % number


def test_damage_is_found_repaired_and_served(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        for number in range(5):
            ask(server.address, "PUT", f"/kv/{number}", b"value %d" % number)
        server.kill()
    [journal] = (tmp_path / "data").glob("journal-0*")
    journal.write_bytes(journal.read_bytes().replace(b"value 3", b"VALUE 3"))
    with pytest.raises(AssertionError, match=f"run: kvtwist check {tmp_path / 'data'}"), running(tmp_path / "data"):
        pass
    check = kvtwist("check", tmp_path / "data")
    assert check.returncode == 1, check
    assert b"revisions 4 to 4 are missing" in check.stdout
    assert kvtwist("repair", tmp_path / "data").returncode == 1
    assert kvtwist("repair", "--yes", tmp_path / "data").returncode == 0
    assert kvtwist("check", tmp_path / "data").returncode == 0
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/2").body == b"value 2"
        assert ask(server.address, "GET", "/kv/3").status == 404
        assert ask(server.address, "GET", "/kv/4").body == b"value 4"


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    store = filled(tmp_path / "data", 3000, b"x" * 200)
    for command in ("dump --records", "export"):
        name, *options = command.split()
        with subprocess.Popen(
            [*COMMAND, name, str(store), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment({}),
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b"", command
            assert process.wait(PATIENCE) == 141, command
    assert b"fine" in kvtwist("check", store).stdout


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    store = filled(tmp_path / "data", 3000, b"x" * 200)
    for command in ("dump --records", "export"):
        name, *options = command.split()
        with open("/dev/full", "wb") as full:
            process = subprocess.run(
                [*COMMAND, name, store, *options],
                stdout=full,
                stderr=subprocess.PIPE,
                env=clean_environment({}),
                check=False,
            )
        assert (process.returncode, process.stderr) == (4, b"kvtwist: No space left on device\n"), command
    process = kvtwist("export", store, "/dev/full", "--force")
    assert (process.returncode, process.stderr.count(b"\n")) == (4, 1), process


def test_a_terminal_is_shown_the_progress_and_nothing_else(tmp_path: Path) -> None:
    store = filled(tmp_path / "data")
    (store / "mine").write_bytes(b"")
    ours, theirs = os.openpty()
    try:
        process = subprocess.run(
            [*COMMAND, "check", store],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=clean_environment({"TERM": "xterm"}),
            timeout=PATIENCE,
            check=False,
        )
        assert process.stdout.splitlines()[0] == b"note: mine: is not the store's"
        shown = os.read(ours, 10_000)
        assert b"checking" in shown and b"mine" not in shown, shown
    finally:
        os.close(ours)
        os.close(theirs)


def test_streams_that_are_closed_do_no_harm(tmp_path: Path) -> None:
    store = filled(tmp_path / "data")
    command = " ".join(["exec", *COMMAND, "{}", str(store), "{}"])
    for name, closed, status in (("check", ">&-", 0), ("import", "<&-", 1), ("check", "2>&-", 0)):
        process = subprocess.run(
            command.format(name, closed), shell=True, capture_output=True, env=clean_environment({}), check=False
        )
        assert process.returncode == status, process
        assert b"Traceback" not in process.stdout + process.stderr, process


def test_an_import_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    lines = [b'{"keyspace":"data","key":"%06d","value":"","media_type":"","modified_ms":7}\n' % n for n in range(30000)]
    (tmp_path / "file").write_bytes(b"".join([HEADER, *lines, b'{"end":30000}\n']))
    options = ["--create"]
    kills = 0
    for target in (1, 100_000, 200_000):
        process = subprocess.Popen(
            [*COMMAND, "import", *options, str(tmp_path / "data"), str(tmp_path / "file")],
            stdout=subprocess.DEVNULL,
            env=clean_environment({}),
        )
        try:
            wait_for_journal(tmp_path / "data", target, process)
        finally:
            process.kill()
            kills += process.wait(PATIENCE) == -signal.SIGKILL
        if progress_of(tmp_path / "data"):
            options = ["--resume"]
    assert kills > 0
    assert kvtwist("import", *options, tmp_path / "data", tmp_path / "file").returncode == 0
    with opened(str(tmp_path / "data")) as store:
        assert [int(key) for key, _ in store.scan(DATA)] == list(range(30000))
        # Each line was written once: no transaction but those of the batches, of which each one has its share.
        assert store.revision == 1 + 30 + 1


def wait_for_journal(directory: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the journal has frames of so many bytes, or the process has ended."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        paths = directory.glob("journal-0*") if directory.exists() else ()
        if any(len(path.read_bytes().rstrip(b"\0")) > 28 + size for path in paths):
            return
        time.sleep(0.001)


def progress_of(directory: Path) -> bool:
    """Whether an import has begun there."""
    try:
        with opened(str(directory)) as store:
            return any(True for _ in store.scan(PROGRESS))
    except StoreError:
        return False


def test_control_c_stops_an_import_that_can_go_on(tmp_path: Path) -> None:
    lines = [b'{"keyspace":"data","key":"%06d","value":"","media_type":"","modified_ms":7}\n' % n for n in range(5000)]
    with subprocess.Popen(
        [*COMMAND, "import", "--create", str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment({}),
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"".join([HEADER, *lines[:1500]]))
        process.stdin.flush()
        wait_for_journal(tmp_path / "data", 10_000, process)
        process.send_signal(signal.SIGINT)  # it waits for more
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == b"kvtwist: interrupted\n"
    text = b"".join([HEADER, *lines, b'{"end":5000}\n'])
    assert kvtwist("import", "--resume", tmp_path / "data", text=text).returncode == 0
    with opened(str(tmp_path / "data")) as store:
        assert sum(1 for _ in store.scan(DATA)) == 5000


def test_exit_codes_and_names_that_are_not_text(tmp_path: Path) -> None:
    assert kvtwist("no-such-command").returncode == 2
    missing = kvtwist("check", tmp_path / "missing")
    assert (missing.returncode, missing.stdout) == (4, b"")
    assert missing.stderr == f"kvtwist: {tmp_path / 'missing'}: there is no such directory\n".encode()
    strange = filled(tmp_path / os.fsdecode(b"not \xff utf-8"))
    (strange / os.fsdecode(b"nor \xff this")).write_bytes(b"")
    found = kvtwist("check", "--json", strange)
    assert found.returncode == 0
    assert [json.loads(line)["type"] for line in found.stdout.splitlines()] == ["note", "summary"]
