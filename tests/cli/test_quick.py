"""What has to be quick."""

import json
import subprocess
import sys
import time

from ..command import TINY, glassgpt


def test_help_is_quick(tmp_path):
    """The quickest of fifteen: a machine that is busy for a moment only ever adds time."""
    seconds = []
    for _ in range(15):
        begin = time.perf_counter()
        assert glassgpt(tmp_path, "--help")[0] == 0
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.3


def test_a_run_loads_no_compiler_and_a_stopped_one_no_plots(folder):
    """Together they take as long as torch itself."""
    program = """
import json, sys
from glassgpt.cli import main
from glassgpt.train.trainer import Trainer
loaded = []
real = Trainer._one_step
def one_step(trainer):
    real(trainer)
    loaded.append(sorted({"torch._dynamo", "sympy", "matplotlib"} & sys.modules.keys()))
Trainer._one_step = one_step
try:
    main(sys.argv[1:])
except SystemExit:
    loaded.append(sorted({"torch._dynamo", "sympy", "matplotlib"} & sys.modules.keys()))
print(json.dumps(loaded))
"""
    arguments = ["train", "song.txt", *TINY, "--max-steps", "3", "--optimizer", "muon"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [], [], ["matplotlib"]]
