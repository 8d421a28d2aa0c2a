"""`kvtwist` on disks that are mounted, too small, or read-only."""

from __future__ import annotations

from pathlib import Path

from tests.support.mounts import make_read_only, small_disk
from tests.support.process import MIB
from tests.support.tools import kvtwist
from tests.system.test_kvtwist_command import filled


def test_a_mount_point_is_filled(tmp_path: Path) -> None:
    store = filled(tmp_path / "data")
    with small_disk(tmp_path / "mount", 8 * MIB) as mount:
        assert kvtwist("restore", store, mount).exit_code == 0
        assert kvtwist("check", mount).stdout.startswith("fine")
        assert kvtwist("export", mount).stdout == kvtwist("export", store).stdout


def test_a_mount_point_that_is_too_small_is_empty_afterwards(tmp_path: Path) -> None:
    store = filled(tmp_path / "data", 4, b"x" * MIB)
    with small_disk(tmp_path / "mount", 2 * MIB) as mount:
        for target in (mount, mount / "new"):
            process = kvtwist("backup", store, target)
            assert (process.exit_code, process.stderr.count("\n")) == (4, 1), process
            assert "No space left on device" in process.stderr
            assert list(mount.iterdir()) == []
        process = kvtwist("export", store, mount / "file")
        assert (process.exit_code, process.stderr.count("\n")) == (4, 1), process
        assert not (mount / "file").exists()


def test_a_disk_that_is_read_only_is_one_line(tmp_path: Path) -> None:
    store = filled(tmp_path / "data")
    with small_disk(tmp_path / "mount", 8 * MIB) as mount:
        (mount / "empty").mkdir()
        filled(mount / "store")
        make_read_only(mount)
        (tmp_path / "lines").write_bytes(kvtwist("export", store).stdout_bytes)
        for arguments in (
            ("backup", store, mount / "copy"),
            ("restore", store, mount / "empty"),
            ("export", store, mount / "file"),
            ("export", mount / "store"),
            ("import", "--create", mount / "new", tmp_path / "lines"),
            ("import", mount / "store", tmp_path / "lines"),
            ("compact", mount / "store"),
        ):
            process = kvtwist(*arguments)
            assert (process.exit_code, process.stderr.count("\n")) == (4, 1), process
            assert "Read-only file system" in process.stderr
        for command in ("check", "stats", "dump"):
            assert kvtwist(command, mount / "store").exit_code == 0


def test_a_directory_under_another_name_is_the_same(tmp_path: Path) -> None:
    store = filled(tmp_path / "data")
    (tmp_path / "link").symlink_to("data")
    lines = kvtwist("export", store).stdout_bytes
    for command in ("check", "stats", "dump", "compact", "repair"):
        assert kvtwist(command, tmp_path / "link").exit_code == 0
    assert kvtwist("export", tmp_path / "link").stdout_bytes == lines
    assert kvtwist("import", tmp_path / "link", text=lines).exit_code == 0
    assert kvtwist("backup", tmp_path / "link", tmp_path / "copy").exit_code == 0
    assert kvtwist("backup", tmp_path / "copy", tmp_path / "link").exit_code == 4
