"""The tool that the other tests of this folder look through."""

import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from .system_calls import Call, available, run_and_die, trace

pytestmark = pytest.mark.skipif(not available(), reason="system calls cannot be traced here")


def test_every_change_is_seen_with_its_name_and_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def work():
        Path("a").mkdir()
        with Path("a/x").open("w") as file:
            file.write("text")
            file.flush()
            os.fsync(file.fileno())
        folder = os.open("a", os.O_RDONLY)
        os.rename("x", "y", src_dir_fd=folder, dst_dir_fd=folder)
        Path("z").hardlink_to("a/y")
        os.unlink("y", dir_fd=folder)
        os.fsync(folder)
        Path("a").rmdir()
        with Path("z").open("rb+") as file:
            file.truncate(2)
        Path("z").read_bytes()
        Path("s").symlink_to("z")

    a, z = tmp_path / "a", tmp_path / "z"
    assert trace(work, tmp_path) == [
        Call("mkdir", (a,)),
        Call("create", (a / "x",)),
        Call("write", (a / "x",)),
        Call("sync", (a / "x",)),
        Call("rename", (a / "x", a / "y")),
        Call("link", (a / "y", z)),
        Call("unlink", (a / "y",)),
        Call("sync", (a,)),
        Call("rmdir", (a,)),
        Call("open", (z,)),
        Call("write", (z,)),
        Call("symlink", (tmp_path / "s",)),
    ]


def test_other_languages_and_other_threads_are_seen(tmp_path):
    def work():
        np.arange(6).tofile(tmp_path / "numpy")
        save_file({"a": torch.ones(2, 3)}, tmp_path / "rust")
        thread = threading.Thread(target=(tmp_path / "thread").write_text, args=("text",))
        thread.start()
        thread.join()

    written = {call.paths[0].name for call in trace(work, tmp_path) if call.name == "write"}
    assert {"numpy", "thread"} <= written
    assert len(written) == 3  # the rust one under a name of its own choice


def test_a_file_that_is_written_through_memory_is_seen(tmp_path):
    (tmp_path / "x").write_bytes(b"1234")

    def work(access):
        with (tmp_path / "x").open("rb+") as file, mmap.mmap(file.fileno(), 4, access=access):
            pass

    assert Call("write", (tmp_path / "x",)) in trace(lambda: work(mmap.ACCESS_WRITE), tmp_path)
    assert Call("write", (tmp_path / "x",)) not in trace(lambda: work(mmap.ACCESS_READ), tmp_path)


def test_what_the_kernel_refuses_or_lies_elsewhere_is_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "inside").mkdir()

    def work():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "inside/x").touch()
        (tmp_path / "in/y").touch()

    assert trace(work, tmp_path / "in") == [Call("create", (tmp_path / "in/y",))]


@pytest.mark.parametrize("threaded", [False, True])
def test_death_comes_before_its_call_and_after_the_one_before(tmp_path, threaded):
    def write(number):
        for i in range(3):
            (tmp_path / f"{number}-{i}").mkdir()

    def work(number):
        if threaded:
            thread = threading.Thread(target=write, args=(number,))
            thread.start()
            thread.join()
        else:
            write(number)

    for n in (1, 2, 3):
        assert run_and_die(lambda n=n: work(n), tmp_path, n)
    assert not run_and_die(lambda: work(4), tmp_path, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2-0", "3-0", "3-1", "4-0", "4-1", "4-2"]


def test_work_that_fails_is_said_so(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="the work ended with 1"):
        trace(lambda: 1 / 0, tmp_path)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_other_children_are_left_alone(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    trace((tmp_path / "x").touch, tmp_path)
    assert other.wait() == 7
