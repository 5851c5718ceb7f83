import errno
import os

import pytest

from glassgpt.disk import is_full, make_folder, sync


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
