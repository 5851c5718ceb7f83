import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["glassgpt", "glassgpt.config", "glassgpt.config.load", "glassgpt.errors"])
def test_torch_is_not_loaded(package):
    """`glassgpt --help` answers at once; a configuration is read where no model will ever be built."""
    command = f"import sys, {package}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_a_configuration_is_built_without_torch():
    command = (
        "import sys; from glassgpt.config import build_config, config_text; config_text(build_config(preset='gpt3-175b')); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
