"""The machine in words and numbers: what a result or a bug report has to say of it."""

import os
import platform
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

import glassgpt

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "cyclopts", "rich", "matplotlib")


def describe_environment() -> dict[str, Any]:
    """Versions and hardware, JSON-ready; no user name, host name or path in it."""
    environment: dict[str, Any] = {
        "glassgpt": glassgpt.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(total_memory() / 1e9, 1),
    }
    if torch.cuda.is_available():
        environment["gpu"] = torch.cuda.get_device_name()
        environment["gpu_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
    return environment


def total_memory() -> int:
    """Bytes of main memory."""
    return int(psutil.virtual_memory().total)


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that this process could still get, on the device if it has memory of its own."""
    if device is not None and device.type == "cuda":
        kept_for_later = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept_for_later
    return int(psutil.virtual_memory().available)


def free_disk(folder: Path) -> int:
    """Bytes free where `folder` lies or would lie."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def _processor_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def process_seconds() -> float:
    """How long this process has been there, the interpreter's own start included. Elsewhere than on Linux, and by a clock of
    whole seconds there, psutil knows."""
    rough = time.time() - float(psutil.Process().create_time())
    try:
        ticks = int(
            Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()[19]
        )  # since the machine began
        precise = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return rough
    return precise if abs(precise - rough) < 2 else rough  # a container may have a clock of its own
