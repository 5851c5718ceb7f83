"""PyTorch's own files are pickles, which can hold programs. They are read in a process of their own that runs none, and
come back as tensors and plain values.

`torch.load(weights_only=True)` builds tensors, numbers, texts, lists and dicts, and refuses the rest (see its documentation).
A process besides, so that a file which is made to break the reader breaks nothing else, and memory goes back at once.
"""

import _thread
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassgpt.checkpoint import load_tensors, save_tensors
from glassgpt.disk import temporary_folder
from glassgpt.errors import CheckpointError
from glassgpt.signals import undone

SECONDS = 600  # a reader that takes longer has been given a file to stumble over
MOST_VALUES = 1_000_000
NOT_NEEDED = ("optimizer", "optimizer_state_dict")  # twice as large as the model, and of no use here


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict in a .pt or .pth file. Raises CheckpointError where it holds anything but tensors and plain values."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; check the path")
    with temporary_folder("glassgpt-import") as folder:
        # -P: not what lies in the current folder under a module's name.
        reader = [sys.executable, "-P", "-m", "glassgpt.formats.unpickle", str(path.absolute()), str(folder)]
        try:
            code, said = _run(reader)
        except subprocess.TimeoutExpired:
            raise CheckpointError(f"{path} cannot be imported: reading it does not come to an end") from None
        values = folder / "values.json"
        if code or not values.is_file():
            last = (said.strip().splitlines() or [f"the reader ended with {code}"])[-1]
            raise CheckpointError(f"{path} cannot be imported: {last}")
        tensors = load_tensors(folder / "tensors.safetensors")
        content: dict[str, Any] = _rebuild(json.loads(values.read_text(encoding="utf-8")), tensors)
    return content


def _run(reader: Sequence[str]) -> tuple[int, str]:
    """What it ended with, and its standard error. It does not outlive this process."""
    stdin, held = os.pipe()  # ends for the reader when this process does, however that comes
    try:
        with (
            subprocess.Popen(
                reader, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, encoding="utf-8", errors="replace",
            ) as process,
            undone(process.kill),
        ):  # fmt: skip
            try:
                _, said = process.communicate(timeout=SECONDS)
            except BaseException:
                process.kill()
                raise
        return process.returncode, said
    finally:
        os.close(stdin)
        os.close(held)


class _Flattener:
    """Values as JSON has them, each with its kind; tensors beside them, by number."""

    def __init__(self, most_bytes: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.bytes_left, self.values_left = most_bytes, MOST_VALUES

    def flatten(self, value: Any) -> dict[str, Any] | None:
        self.values_left -= 1
        if self.values_left < 0:
            sys.exit(f"it holds more than {MOST_VALUES:,} values")
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.is_nested:
                return None  # no plain numbers, and nothing that a model is made of
            self.bytes_left -= value.numel() * value.element_size()
            if self.bytes_left < 0:  # a view of one number can pretend to be any size
                sys.exit("its tensors are larger than the file itself")
            number = str(len(self.tensors))
            self.tensors[number] = value.detach().clone()  # tied ones share memory, which safetensors does not store
            return {"tensor": number}
        if isinstance(value, dict):
            parts = {str(key): self.flatten(part) for key, part in value.items()}
            return {"dict": {key: part for key, part in parts.items() if part is not None}}
        return {"value": value} if isinstance(value, (str, int, float, bool)) else None


def _rebuild(flat: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "tensor" in flat:
        return tensors[flat["tensor"]]
    return {key: _rebuild(part, tensors) for key, part in flat["dict"].items()} if "dict" in flat else flat["value"]


def _main(path: str, folder: str) -> None:
    import pickle

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own advice, to allow what the file asks for, is not passed on.
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"{found[1]} in it" if found else str(error).splitlines()[0][:120]
        sys.exit(
            f"it holds more than tensors and plain values, and only those are read ({what}); if it is yours, save "
            "model.state_dict() alone"
        )
    except Exception as error:  # whatever a damaged or hostile file makes the reader do
        sys.exit(f"it is damaged, or no file of torch.save ({type(error).__name__})")
    if not isinstance(content, dict):
        sys.exit(f"it holds a {type(content).__name__}, not a dict of tensors")
    for name in NOT_NEEDED:
        content.pop(name, None)
    # Tied tensors are stored once and counted twice, never more often in a model.
    flattener = _Flattener(most_bytes=2 * Path(path).stat().st_size)
    try:
        values = flattener.flatten(content)
    except RecursionError:
        sys.exit("its dicts are nested too deeply for a model")
    save_tensors(flattener.tensors, Path(folder) / "tensors.safetensors")
    (Path(folder) / "values.json").write_text(json.dumps(values), encoding="utf-8")


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    _thread.start_new_thread(_end_with_parent, ())
    _main(*sys.argv[1:])
