import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from glassgpt.disk import DiskError, is_full, make_folder, replace_file, sync
from glassgpt.errors import MachineError


def failing(number):
    def fsync(handle):
        raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.skipif(os.name == "nt", reason="folders are not synced there")
def test_a_file_system_that_cannot_sync_folders_is_no_failure_and_a_broken_one_is(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        sync(tmp_path / "file")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        sync(tmp_path)


def test_where_the_drive_itself_can_be_asked_it_is(tmp_path, monkeypatch):
    """As on macOS; where its file system cannot, the plain way is left."""
    fcntl = pytest.importorskip("fcntl")
    calls = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda handle, command: calls.append(command))
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("fsync"))
    sync(tmp_path)
    assert calls == [51]
    monkeypatch.setattr(fcntl, "fcntl", lambda handle, command: failing(errno.ENOTSUP)(handle))
    sync(tmp_path)
    assert calls == [51, "fsync"]
    monkeypatch.setattr(fcntl, "fcntl", lambda handle, command: failing(errno.EIO)(handle))
    with pytest.raises(OSError, match="Input/output error"):
        sync(tmp_path)


def test_folders_are_made_with_those_above_them_and_found_again(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a/b/c")
        assert (tmp_path / "a/b/c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file/below")


def test_a_quota_is_a_full_disk_and_a_locked_door_is_not():
    assert all(is_full(OSError(number, "")) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    assert not is_full(OSError(errno.EACCES, ""))


def unwritten(number, **more):
    return str(DiskError(Path("a/b"), OSError(number, os.strerror(number)), **more))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_one_line_with_path_and_bytes(number, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1234 if path == Path.cwd() else 0))
    begin = f"a/b could not be written ({os.strerror(number)}): "
    assert unwritten(number, needed=5000) == begin + "5,000 bytes are needed, 1,234 are free; make room"
    assert unwritten(number) == begin + "1,234 bytes are free; make room"
    line = unwritten(number, needed=5000, kind="folder ", about="about ", elsewhere="go away")
    assert line == f"folder {begin}about 5,000 bytes are needed, 1,234 are free; make room, or go away"


def test_a_limit_on_the_size_of_files_is_named():
    begin = f"a/b could not be written ({os.strerror(errno.EFBIG)}; ulimit -f, or the file system, sets how large): "
    line = unwritten(errno.EFBIG, needed=5000)
    assert line.startswith(begin + "5,000 bytes are needed, ") and line.endswith(" are free; raise that limit")


def test_a_folder_that_was_moved_away_is_said_to_be_gone(tmp_path):
    gone = OSError(errno.ENOENT, "No such file or directory")
    line = str(DiskError(tmp_path / "runs/a/metrics.jsonl", gone))
    assert line.endswith(f"): there is no folder {tmp_path / 'runs/a'}; bring it back where it was moved, or make it")
    assert "check the disk" in str(DiskError(tmp_path / "metrics.jsonl", gone))


def test_no_right_to_write_says_nothing_of_bytes():
    begin = "a/b could not be written (Read-only file system); "
    assert unwritten(errno.EROFS, needed=5000) == begin + "check the disk, and your right to write there"
    assert unwritten(errno.EROFS, needed=5000, elsewhere="go away") == begin + "go away"


def test_small_files_are_replaced_in_one_step(tmp_path):
    replace_file(tmp_path / "x", b"one")
    replace_file(tmp_path / "x", b"two")
    assert (tmp_path / "x").read_text() == "two" and len(list(tmp_path.iterdir())) == 1


def test_a_small_file_that_somebody_reads_is_waited_for(tmp_path, monkeypatch):
    """Windows refuses to replace an open file for as long as it is open."""
    refusals = iter([True, True])
    real = Path.replace

    def replace(self, target):
        if next(refusals, False):
            raise PermissionError(13, "used by another process")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    replace_file(tmp_path / "x", b"one")
    assert (tmp_path / "x").read_text() == "one"


def test_a_small_file_without_room_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(
        MachineError, match=r"x could not be written \(.*\); check the disk, and your right to write there"
    ):
        replace_file(tmp_path / "x", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
