"""The one check, by hand and in CI: format, lint, types, layers, tests.  Usage: python check.py [pytest arguments]"""

import os
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(sys.executable).parent  # the tools of this very environment, also where it was not activated

CHECKS = {
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "layers": ["lint-imports", "--no-cache"],
}
# What measures time is disturbed by what runs beside it.
TIMED = ["tests/train/test_minutes.py", "tests/cli/test_quick.py", "tests/faults/test_signals_before_training.py"]
if sys.argv[1:]:
    CHECKS["tests"] = ["pytest", *sys.argv[1:]]
else:
    CHECKS["tests"] = ["pytest", "-n2", "--dist=worksteal", *(f"--ignore={file}" for file in TIMED)]
    CHECKS["tests that measure time"] = ["pytest", *TIMED]


def main() -> None:
    # Many short tests on few cores: threads cost more than they give, the more so while they spin and wait.
    environment = {"GOMP_SPINCOUNT": "1000", "OMP_NUM_THREADS": "1", **os.environ}
    for name, (tool, *arguments) in CHECKS.items():
        begin = time.perf_counter()
        print(f"== {name}: {tool} {' '.join(arguments)}", flush=True)
        code = subprocess.run([SCRIPTS / tool, *arguments], env=environment, check=False).returncode
        if code:
            sys.exit(f"{name} failed")
        print(f"== {name} is fine ({time.perf_counter() - begin:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
