"""Tensors in a file, under their names."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassgpt.errors import CheckpointError


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a .safetensors file. Raises OSError where there is no room or no permission."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, metadata={"format": "pt"})
    except SafetensorError as error:  # the library's own class for whatever the system refused it
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        code = int(number[1])
        raise (OSError(0, str(error), None, code) if os.name == "nt" else OSError(code, os.strerror(code))) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():  # nor a pipe, which is never read to its end
        raise CheckpointError(f"{path} is missing; the checkpoint is not whole, use another one")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); use another checkpoint") from None
