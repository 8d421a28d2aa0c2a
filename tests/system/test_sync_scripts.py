"""Scripts with the client that blocks, each a process: they start a reactor, and end as any script does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.server import PATIENCE, clean_environment

START = """
import threading, sys
from kvtwist.client.sync import Client
from kvtwist.testing.sync import memory_server
"""


def run(script: str) -> list[str]:
    """What a script prints; it has to end by itself."""
    done = subprocess.run(
        [sys.executable, "-c", START + script],
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout.splitlines()


def test_a_script_ends() -> None:
    script = """
with memory_server() as url, Client(url.replace("127.0.0.1", "localhost")) as client:
    print(client.put("a", "b"), client.get("a").text)
"""
    assert run(script) == ["1 b"]


def test_a_script_that_leaves_everything_open_ends() -> None:
    script = """
import atexit
with memory_server() as url:
    client = Client(url)
    changes = client.follow("a")
    print(next(changes))
    lease = client.lock("l", 100).acquire()

def too_late():
    try:
        client.get("a")
    except RuntimeError as error:
        print(error)

atexit.register(too_late)
"""
    assert run(script) == ["Reset()", "the program is ending, and has stopped the reactor"]


def test_threads_that_go_on_after_the_main_thread_are_served() -> None:
    script = """
def work():
    threading.main_thread().join()
    with memory_server() as url, Client(url) as client:
        print(client.put("a", "b"))
    ready.set()

ready = threading.Event()
threading.Thread(target=work).start()
threading.Thread(target=ready.wait, daemon=True).start()
with memory_server() as url, Client(url) as client:
    print(client.status().revision)
"""
    assert run(script) == ["0", "1"]


def test_an_error_ends_a_script() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + "client = Client('http://127.0.0.1:1', tries=1)\nclient.get('a')"],
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "kvtwist.client.errors.Unavailable: http://127.0.0.1:1 cannot be reached" in done.stderr


def test_control_c_ends_the_waiting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = f"""
client = Client("http://127.0.0.1:{silent.getsockname()[1]}", timeout=10_000)
try:
    client.get("a")
except KeyboardInterrupt:
    print("interrupted")
"""
        with subprocess.Popen(
            [sys.executable, "-c", START + script],
            env=clean_environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            with silent.accept()[0] as connection:
                assert connection.recv(65536).startswith(b"GET ")
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE) == 0
            assert process.stdout is not None and process.stderr is not None
            assert (process.stdout.read(), process.stderr.read()) == ("interrupted\n", "")
