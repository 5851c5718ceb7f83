"""What a model and its training take: parameters, operations, memory and time, as plain numbers."""

from typing import Any

import psutil
import torch

from glassgpt.config import PRESETS, GPTConfig, RunConfig, build_config
from glassgpt.errors import ConfigError
from glassgpt.machine import decide_device, decide_threads, free_memory, total_memory
from glassgpt.machine.describe import describe_environment
from glassgpt.model.size import bytes_of, count_parameters, generation_bytes, training_flops
from glassgpt.plan.diagram import diagram
from glassgpt.plan.gpus import ALLOCATOR, CONTEXT, GPU, GPUS, SHARE_OF_PEAK, estimated_tokens_per_second
from glassgpt.plan.speed import measure_speed
from glassgpt.train.memory import process_bytes, training_memory
from glassgpt.train.settle import fitting_micro_batch

# A vocabulary that is made of the text has no size before there is a text. For char that of the best-known small text.
TRAINED_VOCABULARY = {"char": 65, "byte": 257, "bpe": 4096, "gpt2": 50257}
TOKENS_A_PARAMETER = 20  # what Hoffmann et al. 2022 (2203.15556) found best for a given number of operations
MOST_SEQUENCES = 512  # of a micro batch on a GPU: more make nothing faster


def with_parent(config: RunConfig) -> RunConfig:
    """With the shape of the model that it goes on from. A published one has its preset's, and is not fetched."""
    source = config.finetune.from_
    if not source:
        return config
    from glassgpt.train.parent import Parent, fit_to_parent, open_parent  # they load every format

    known = Parent(source, build_config(preset=source).model, {}, None, None, {}) if source in PRESETS else None
    return fit_to_parent(config, known or open_parent(source, config))[0]


def with_vocabulary(config: RunConfig) -> tuple[RunConfig, bool]:
    """And whether its size is only a guess."""
    if config.model.vocab_size:
        return config, False
    size = TRAINED_VOCABULARY.get(config.data.tokenizer)
    if size is None:
        raise ConfigError("how large the vocabulary of that tokenizer is has to be said: --vocab-size N")
    return config.resolved(vocab_size=size), config.data.tokenizer in ("char", "bpe")


def plan(config: RunConfig, tokens: float = 0.0) -> dict[str, Any]:
    """`tokens`: what the time is for; 0: those of the run, or TOKENS_A_PARAMETER where the run says minutes. Nothing is
    trained; on this machine a piece of a step is measured where the model fits."""
    before = psutil.Process().memory_info().rss
    config, guessed = with_vocabulary(with_parent(config))
    device = torch.device(decide_device(config.machine.device).choice)
    threads = decide_threads(config.machine.threads)
    c, train = config.model, config.train
    micro_batch_size = train.micro_batch_size or fitting_micro_batch(config, device)
    room = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory()
    fits = needed(config, micro_batch_size, 1, before, device, False) <= room
    speed = measure_speed(config, micro_batch_size, device) if fits else None
    if speed is not None:
        config = config.resolved(precision=speed.precision)
    replicas = speed.replicas if speed is not None else 1
    each = micro_batch_size // replicas if not train.micro_batch_size else micro_batch_size
    memory = training_memory(config, each, replicas=replicas)
    # Where there is no room for a copy, training waits for its checkpoints.
    peaks = [needed(config, each, replicas, before, device, with_copy) for with_copy in (True, False)]
    tokens_a_step = train.batch_size * c.context_length
    own = train.max_steps * tokens_a_step
    if speed is not None and train.minutes:
        own = int(60 * train.minutes / speed.step * tokens_a_step)
    asked = tokens or own or TOKENS_A_PARAMETER * count_parameters(c).total
    here = {
        "name": describe_environment()["gpu"]
        if device.type == "cuda"
        else f"here, {threads} thread{'s' * (threads > 1)}",
        "measured": True,
        "memory": room,
        "needed": next((peak for peak in peaks if peak <= room), peaks[-1]),
        "micro_batch_size": each,
        "replicas": replicas,
        "precision": config.machine.precision if speed is None else speed.precision,
        "fits": fits,
        "seconds_a_step": speed and speed.step,
        "parts": speed.parts if speed else {},
        "tokens_per_second": speed and tokens_a_step / speed.step,
    }
    machines = [here, *(on_gpu(config, gpu) for gpu in GPUS)]
    for machine in machines:
        rate = machine["tokens_per_second"]
        machine["seconds"] = asked / rate if rate and machine["fits"] else None
    return {
        "preset": config.preset,
        "architecture": c.architecture,
        "shape": shape(c),
        "vocabulary_guessed": guessed,
        "parameters": parameters(c),
        "flops_a_token": {"forward": training_flops(c) // 3, "backward": 2 * training_flops(c) // 3},
        "tokens_a_step": tokens_a_step,
        "batch_size": train.batch_size,
        "training": {
            "weights": memory.weights,
            "gradients": 0 if config.finetune.lora else memory.weights,
            "optimizer": memory.optimizer,
            "activations": memory.activations,
            "logits": memory.logits,
            "checkpoint": memory.checkpoint,
        },
        "generation": generation(c),
        "tokens": int(asked),
        "tokens_of": "what was asked for"
        if tokens
        else "the run's own"
        if own
        else f"{TOKENS_A_PARAMETER} for each parameter (Hoffmann et al. 2022)",
        "machines": machines,
        "advice": advice(config, here, device),
        "diagram": diagram(c, each),
    }


def shape(c: GPTConfig) -> dict[str, int]:
    return {
        "n_layer": c.n_layer, "n_head": c.n_head, "n_kv_head": c.kv_heads, "n_embd": c.n_embd, "head_dim": c.head_width,
        "mlp_width": c.mlp_width, "context_length": c.context_length, "vocab_size": c.vocab_size,
    }  # fmt: skip


def parameters(c: GPTConfig) -> dict[str, Any]:
    """By part, in all with and without a tied output layer, and by the rule of thumb 12 n_layer n_embd^2."""
    count, output = count_parameters(c), c.vocab_size * c.n_embd
    return {
        "embedding": count.embedding,
        "positions": count.positions,
        "attention": count.attention,
        "mlp": count.mlp,
        "norms": count.norms,
        "head": count.head,
        "total": count.total,
        "tied": count.without_head,
        "untied": count.without_head + output,
        "in_blocks": count.attention + count.mlp,
        "rule_of_thumb": 12 * c.n_layer * c.n_embd**2,
    }


def generation(c: GPTConfig) -> dict[str, int]:
    """Bytes, for one text of a whole context in float32."""
    weights = bytes_of(count_parameters(c).total)
    cache = bytes_of(2 * c.n_layer * c.kv_heads * c.head_width * c.context_length)
    return {"weights": weights, "cache": cache, "working": generation_bytes(c, 1) - cache}


def needed(
    config: RunConfig, micro_batch_size: int, replicas: int, before: int, device: torch.device, with_copy: bool
) -> int:
    if device.type == "cuda":
        return gpu_bytes(config, micro_batch_size)
    return process_bytes(config, micro_batch_size, replicas=replicas, before=before, with_copy=with_copy)


def gpu_bytes(config: RunConfig, micro_batch_size: int) -> int:
    """The copy for a checkpoint left out: it lies in the machine's own memory."""
    return CONTEXT + int(ALLOCATOR * training_memory(config, micro_batch_size).tensors)


def on_gpu(config: RunConfig, gpu: GPU) -> dict[str, Any]:
    """With the largest micro batch that fits."""
    config = config.resolved(precision="bfloat16")
    sizes = (n for n in range(min(config.train.batch_size, MOST_SEQUENCES), 0, -1) if config.train.batch_size % n == 0)
    size = next((n for n in sizes if gpu_bytes(config, n) <= gpu.memory), 1)
    return {
        "name": gpu.name,
        "measured": False,
        "share_of_peak": SHARE_OF_PEAK,
        "memory": gpu.memory,
        "needed": gpu_bytes(config, size),
        "micro_batch_size": size,
        "precision": "bfloat16",
        "fits": gpu_bytes(config, size) <= gpu.memory,
        "tokens_per_second": estimated_tokens_per_second(gpu, training_flops(config.model)),
    }


def advice(config: RunConfig, here: dict[str, Any], device: torch.device) -> list[str]:
    """What to change where it does not fit here, or barely."""
    if here["fits"] and here["needed"] <= free_memory(device):
        return []
    lines = []
    size = here["micro_batch_size"]
    if size > 1:
        smaller = max(n for n in range(1, size) if config.train.batch_size % n == 0)
        lines.append(f"--micro-batch-size {smaller}: the same updates, in smaller pieces")
    saving = config.resolved(gradient_checkpointing=True)
    if not config.train.gradient_checkpointing and training_memory(saving, 1).tensors < here["memory"]:
        lines.append("--gradient-checkpointing: less memory, a third slower")
    weights = bytes_of(count_parameters(config.model).total)
    if not lines and 1.5 * weights < here["memory"]:
        lines.append("--from MODEL --lora 8: adapters of a published model learn, the weights stay as they are")
    if not lines:
        lines.append("a smaller preset, or a GPU of the table that it fits")
    return lines
