import getpass
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import glassgpt
from glassgpt.machine import describe_environment, free_disk, free_memory, total_memory


def test_the_environment_is_plain_json():
    environment = describe_environment()
    assert json.loads(json.dumps(environment)) == environment
    assert environment["glassgpt"] == glassgpt.__version__
    assert environment["python"] == platform.python_version()
    assert environment["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert environment["cores"] == os.cpu_count()
    assert environment["memory_gb"] * 1e9 == pytest.approx(total_memory(), rel=0.1)
    assert environment["processor"]


def test_the_environment_says_nothing_of_who_and_where(monkeypatch):
    """It is meant to be pasted into a bug report."""
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    monkeypatch.setenv("USER", "secret-user")
    text = json.dumps(describe_environment())
    private = {
        "secret-host",
        "secret-user",
        platform.uname().node,
        str(Path.home()),
        str(Path.cwd()),
        getpass.getuser(),
    }
    for word in private - {"root", "user", "/", ""}:
        assert word not in text, word
    assert "\\\\" not in text


def test_a_gpu_is_described(monkeypatch):
    class Properties:
        total_memory = 141_200_000_000

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Fast 9000")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (77, 99))
    environment = describe_environment()
    assert (environment["gpu"], environment["gpu_memory_gb"]) == ("Fast 9000", 141.2)
    assert free_memory(torch.device("cuda")) == 77
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: 31)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: 11)
    assert (
        free_memory(torch.device("cuda")) == 77 + 31 - 11
    )  # what torch took from the GPU and holds for later is ours too
    assert free_memory(torch.device("cpu")) != 77


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda place: (asked.append(Path(place)), usage(place))[1])
    assert free_disk(tmp_path / "no" / "such" / "folder") > 0
    assert asked == [tmp_path]
    monkeypatch.chdir(tmp_path)
    assert free_disk(Path("runs/python-1")) > 0
    assert asked[-1] == tmp_path


def test_memory():
    assert 0 < free_memory() <= total_memory()
    assert free_memory(torch.device("cpu")) > 0


def test_the_process_knows_how_long_it_has_been_there():
    code = "import time; from glassgpt.machine import process_seconds; print(process_seconds(), time.time())"
    before = time.time()
    said, at = map(float, subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split())
    assert -0.02 < at - before - said < 0.3  # the machine counts in hundredths of a second
