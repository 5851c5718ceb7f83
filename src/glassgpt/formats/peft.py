"""PEFT's folder of adapters: `adapter_config.json` and `adapter_model.safetensors`, beside a base model in transformers.

Source: peft's `tuners/lora/config.py` and `utils/save_and_load.py`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glassgpt.checkpoint import Checkpoint, load_checkpoint, save_tensors
from glassgpt.errors import ConfigError
from glassgpt.formats.folder import write_folder, write_json
from glassgpt.formats.huggingface_models import MODEL_TYPE_OF, MODEL_TYPES
from glassgpt.model.lora import TARGETS

# Adapters alone compute nothing: how to get what they stand beside.
README = """---
library_name: peft
tags:
- glassgpt
---

# {name}

Adapters (LoRA) made with GlassGPT. Write the model that they belong to with

    glassgpt export {parent} --to huggingface --out base

and put the two together:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "{name}")
```
"""


def write_peft(checkpoint: Checkpoint, out: Path, result: Mapping[str, Any] | None) -> None:
    """The adapters of a --lora run. Raises ConfigError where there are none."""
    lora = checkpoint.lora
    if lora is None:
        raise ConfigError(f"{checkpoint.folder} holds whole weights, no adapters; write it with --to huggingface")
    if checkpoint.labels:
        raise ConfigError(
            f"{checkpoint.folder} tells labels apart, which its adapters alone do not; write it with --to huggingface"
        )
    kind = MODEL_TYPE_OF[checkpoint.config.architecture]
    MODEL_TYPES[kind].write_config(checkpoint.config)  # refuses what no base model in transformers could be
    prefix = MODEL_TYPES[kind].prefix if kind == "gpt2" else ""  # Qwen3's names have theirs already
    tensors = {}
    for name, tensor in checkpoint.weights().items():
        place, _, half = name.rpartition(".")  # h.0.attn.c_attn, lora_A
        tensors[f"base_model.model.{prefix}{place}.{half}.weight"] = tensor
    targets = sorted({end for end in TARGETS[lora.on] if any(f"{end}." in name for name in tensors)})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": load_checkpoint(checkpoint.parent).state.get("imported_from"),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "fan_in_fan_out": kind == "gpt2",  # its Conv1D keeps (in, out)
        "bias": "none",
        "inference_mode": True,
    }
    writers: dict[str, Callable[[Path], object]] = {
        "README.md": lambda path: path.write_text(
            README.format(name=out.name, parent=checkpoint.parent.as_posix()), "utf-8"
        ),
        "adapter_config.json": write_json(config),
        "adapter_model.safetensors": lambda path: save_tensors(tensors, path),
    }
    write_folder(out, writers, sum(tensor.nbytes for tensor in tensors.values()))
