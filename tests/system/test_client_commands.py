"""The commands that talk to a server, as processes: what they print, what they end with, and how they are piped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvtwist.cli.serve import PROFILES, SECTIONS
from kvtwist.tap import PARAMETERS
from tests.conftest import StartServer
from tests.support import template
from tests.support.server import PATIENCE, Server, clean_environment, until
from tests.support.wire import ask

COMMAND = (sys.executable, "-m", "kvtwist")
Done = subprocess.CompletedProcess[bytes]


class Shell:
    """Runs the command against a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = "http://{}:{}".format(*server.address)

    def environment(self, **more: str) -> dict[str, str]:
        return clean_environment({"KVTWIST_URL": self.url, **more})

    def __call__(self, *arguments: object, text: bytes = b"") -> Done:
        done = template.run("kvtwist", *map(str, arguments), environment=self.environment(), text=text)
        assert b"Traceback" not in done.stdout + done.stderr, done
        return done


@pytest.fixture
def kvtwist(serve: StartServer) -> Iterator[Shell]:
    server = serve("--profile", "native", "--store", "memory")
    yield Shell(server)
    assert ask(server.address, "DELETE", "/v1/kv?all=true").status == 200


def said(done: Done, status: int = 0) -> str:
    """What a command has printed; it must have ended with that status, and without an error message if that is 0."""
    assert done.returncode == status, done
    assert bool(done.stderr) is (status != 0), done
    return done.stdout.decode()


# --- one key ----------------------------------------------------------------------------------------------------------


def test_what_was_put_is_got_byte_for_byte(kvtwist: Shell, tmp_path: Path) -> None:
    octets = bytes(range(256)) * 300
    file = tmp_path / "picture.png"
    file.write_bytes(octets)
    first = int(said(kvtwist("put", "stdin", text=octets)))
    assert int(said(kvtwist("put", "stdin", "-", text=octets))) == first + 1
    said(kvtwist("put", "file", f"@{file}"))
    said(kvtwist("put", "text", "grüße"))
    said(kvtwist("put", "lines", text=b"one\ntwo\n"))
    said(kvtwist("put", "json", '{"x": 1}', "--content-type", "application/json", "--ttl", 100))
    assert kvtwist("get", "stdin", "file").stdout == octets + octets
    assert kvtwist("get", "text", "lines").stdout == "grüßeone\ntwo\n".encode()
    records = [
        json.loads(line)
        for line in said(kvtwist("get", "--json", "stdin", "file", "text", "lines", "json")).splitlines()
    ]
    assert [record["content_type"] for record in records] == [
        "application/octet-stream",
        "image/png",
        "text/plain",
        "text/plain",
        "application/json",
    ]
    assert (records[2]["value"], records[4]["value"]) == ("grüße", '{"x": 1}')
    assert "value_base64" in records[0]
    assert [record["expires"] is None for record in records] == [True, True, True, True, False]


def test_conditions(kvtwist: Shell) -> None:
    revision = said(kvtwist("put", "k", "1", "--if-new")).strip()
    for options in (("--if-new",), ("--if-revision", 0), ("--if-revision", 10**9)):
        assert b"precondition" in kvtwist("put", "k", "2", *options).stderr
        assert kvtwist("put", "k", "2", *options).returncode == 1
    assert kvtwist("del", "k", "--if-revision", 10**9).returncode == 1
    assert said(kvtwist("get", "k")) == "1"
    said(kvtwist("put", "k", "3", "--if-revision", revision))
    assert json.loads(said(kvtwist("put", "k", "4", "--json")))["type"] == "written"
    assert said(kvtwist("get", "k")) == "4"


def test_missing_keys_are_reported_and_the_others_are_there(kvtwist: Shell) -> None:
    said(kvtwist("put", "a", "1"))
    done = kvtwist("get", "no", "a")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"1", b"kvtwist: no: no such key\n")
    done = kvtwist("del", "no", "a")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"1 key deleted\n", b"kvtwist: no: no such key\n")


# --- many keys --------------------------------------------------------------------------------------------------------


def test_listings(kvtwist: Shell) -> None:
    for key in ("a/1", "a/2", "b", "line\nbreak"):
        said(kvtwist("put", key, "value"))
    assert said(kvtwist("ls")) == "a/1\na/2\nb\nline\\nbreak\n"
    assert said(kvtwist("ls", "a/")) == "a/1\na/2\n"
    assert said(kvtwist("ls", "--reverse", "--limit", 2)) == "line\\nbreak\nb\n"
    assert said(kvtwist("ls", "--after", "a/1", "--before", "line")) == "a/2\nb\n"
    long = said(kvtwist("ls", "--long", "a/")).splitlines()
    assert [line.split()[-3:] for line in long] == [["5", "text/plain", "a/1"], ["5", "text/plain", "a/2"]]
    assert "\x1b" not in "".join(long), "colours are for terminals"
    lines = [json.loads(line) for line in said(kvtwist("ls", "--json", "--long", "a/")).splitlines()]
    assert [(line["key"], line["value"]) for line in lines] == [("a/1", "value"), ("a/2", "value")]
    assert said(kvtwist("del", "--prefix", "a/")) == "2 keys deleted\n"
    assert said(kvtwist("ls")) == "b\nline\\nbreak\n"


def test_a_listing_may_be_cut_off_by_its_reader(kvtwist: Shell) -> None:
    puts = [{"put": {"key": f"k{number:05}", "value": "v"}} for number in range(5000)]
    assert ask(kvtwist.server.address, "POST", "/v1/txn", json.dumps({"then": puts}).encode()).status == 200
    command = " ".join(COMMAND)
    done = subprocess.run(
        f"{command} ls | head -n 3", shell=True, env=kvtwist.environment(), capture_output=True, timeout=PATIENCE
    )
    assert (done.stdout, done.stderr) == (b"k00000\nk00001\nk00002\n", b"")
    assert said(kvtwist("ls")).count("\n") == 5000


def test_transactions(kvtwist: Shell, tmp_path: Path) -> None:
    text = b'{"if": [{"key": "k", "exists": false}], "then": [{"put": {"key": "k", "value": "1"}}], "else": []}'
    assert json.loads(said(kvtwist("txn", text=text)))["committed"] is True
    file = tmp_path / "txn.json"
    file.write_bytes(text)
    done = kvtwist("txn", file)
    assert (done.returncode, json.loads(done.stdout)["committed"]) == (1, False)
    for wrong, message in ((b"{", b"standard input: not JSON"), (b'{"then": 1}', b"then")):
        done = kvtwist("txn", text=wrong)
        assert (done.returncode, done.stdout) == (1, b"")
        assert message in done.stderr, done


# --- watch ------------------------------------------------------------------------------------------------------------


def test_a_watch_prints_a_line_a_change(kvtwist: Shell) -> None:
    revision = json.loads(ask(kvtwist.server.address, "GET", "/v1/status").body)["revision"]
    for method, body in (("PUT", b"one"), ("PUT", b"\xff"), ("DELETE", None)):
        assert ask(kvtwist.server.address, method, "/v1/kv/w/k", body).status < 300
    lines = said(kvtwist("watch", "w/", "--after", revision, "--count", 3)).splitlines()
    assert [line.split()[:3] for line in lines] == [
        [str(revision + 1), "put", "w/k"],
        [str(revision + 2), "put", "w/k"],
        [str(revision + 3), "delete", "w/k"],
    ]
    lines = said(kvtwist("watch", "--key", "w/k", "--after", revision, "--count", 3, "--json")).splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["put", "put", "delete"]
    assert json.loads(lines[0])["value"] == "one"


def test_ctrl_c_ends_a_watch(kvtwist: Shell) -> None:
    process = subprocess.Popen(
        [*COMMAND, "watch", "x"], env=kvtwist.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    revisions = iter(range(1_000_000))

    def has_printed() -> bool:
        ask(kvtwist.server.address, "PUT", "/v1/kv/x", b"%d" % next(revisions))
        return bool(os.read(process.stdout.fileno(), 1)) if _readable(process) else False

    until(has_printed)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, b"kvtwist: interrupted\n")


def _readable(process: subprocess.Popen[bytes]) -> bool:
    import select

    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0)[0])


# --- everything else --------------------------------------------------------------------------------------------------


def test_no_server(kvtwist: Shell) -> None:
    for arguments in (("get", "k"), ("ls",), ("put", "k", "v"), ("del", "k")):
        done = kvtwist(*arguments, "--url", "http://127.0.0.1:9")
        assert (done.returncode, done.stdout) == (4, b"")
        assert done.stderr.count(b"\n") == 1


def test_wrong_usage(kvtwist: Shell) -> None:
    for arguments in (
        ("get",),
        ("put",),
        ("put", "k", "v", "--ttl", "0"),
        ("put", "k", "v", "--if-new", "--if-revision", "1"),
        ("del",),
        ("del", "k", "--prefix", "p"),
        ("del", "--prefix", ""),
        ("del", "a", "b", "--if-revision", "1"),
        ("watch", "p", "--key", "k"),
        ("completion", "cmd"),
    ):
        assert kvtwist(*arguments).returncode == 2, arguments
    for arguments in (("get", ""), ("put", "", "v")):
        assert kvtwist(*arguments).returncode == 1, arguments


def test_keys_are_completed(kvtwist: Shell) -> None:
    for key in ("apple", "apricot", "banana"):
        said(kvtwist("put", key, "1"))
    for shell, expected in (("bash", "plain,apple\nplain,apricot\n"), ("fish", "plain,apple\nplain,apricot\n")):
        asked = kvtwist.environment(
            _KVTWIST_COMPLETE=f"{shell}_complete",
            COMP_WORDS="kvtwist get ap",
            COMP_CWORD="2" if shell == "bash" else "ap",
        )
        done = subprocess.run([*COMMAND], env=asked, capture_output=True, text=True, timeout=PATIENCE)
        assert done.stdout.replace("\t", ",") == expected, done
    gone = kvtwist.environment(_KVTWIST_COMPLETE="bash_complete", COMP_WORDS="kvtwist get ap", COMP_CWORD="2")
    gone["KVTWIST_URL"] = "http://127.0.0.1:9"
    done = subprocess.run([*COMMAND], env=gone, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_completion_is_installed(kvtwist: Shell, tmp_path: Path) -> None:
    for shell, name in (("bash", "kvtwist"), ("zsh", "_kvtwist"), ("fish", "kvtwist.fish")):
        done = template.run(
            "kvtwist", "completion", shell, "--install", environment=clean_environment({"HOME": str(tmp_path)})
        )
        path = Path(done.stdout.decode().splitlines()[0])
        assert path.name == name
        assert path.is_relative_to(tmp_path)
        assert path.read_text() == said(kvtwist("completion", shell))


def test_the_help_of_serve_has_every_option_once(kvtwist: Shell) -> None:
    names = [name for section in SECTIONS.values() for name in section]
    assert sorted(names) == sorted([name for name, *_ in PARAMETERS] + ["profile", "cors-origin", "ui"])
    text = said(kvtwist("serve", "--help"))
    assert "lsfr, transactional, native" in " ".join(text.split())
    for title in SECTIONS:
        assert f"\n{title}:\n" in text
    for name in names:
        assert f"--{name} " in text


def test_serve_serves(tmp_path: Path) -> None:
    command = [*COMMAND, "serve", "--port=0", "--working-dir", str(tmp_path / "data")]
    for options, profiles in (((), ", ".join(PROFILES)), (("--profile", "keys"), "keys"), (("-Pkeys",), "keys")):
        process = subprocess.Popen(
            [*command, *options], env=clean_environment({}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "kvtwist is serving" in line:
                break
        assert f"kvtwist is serving {profiles} on http://localhost:" in line
        process.terminate()
        rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGTERM, rest  # as twistd ends
