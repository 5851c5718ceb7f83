"""What a model and its training take: parameters, operations, memory and time, as plain numbers."""

from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from glassgpt.config import GPTConfig, RunConfig, build_config
from glassgpt.config.presets import Size
from glassgpt.data.split import VALIDATION_SHARE
from glassgpt.machine import decide_device, decide_threads, free_memory, threads_restored, total_memory
from glassgpt.model.size import (
    attention_flops,
    bytes_of,
    cache_bytes,
    count_adapters,
    count_parameters,
    generation_bytes,
    hidden_matrices,
)
from glassgpt.plan.advice import advice
from glassgpt.plan.counts import parameters, shape, with_vocabulary
from glassgpt.plan.diagram import diagram
from glassgpt.plan.family import OF_GPT2
from glassgpt.plan.gpus import ALLOCATOR, CONTEXT, GPU, GPUS, SHARE_OF_PEAK, estimated_tokens_per_second
from glassgpt.plan.speed import measure_speed
from glassgpt.plan.timing import Speed
from glassgpt.train.fit import FEWEST_STEPS, LONGEST_SHORT_TEXT, is_settled, sized, sizes_of
from glassgpt.train.memory import process_memory, training_memory
from glassgpt.train.settle import fitting_micro_batch, require_batch, require_replicas

TOKENS_A_PARAMETER = 20  # what Hoffmann et al. 2022 (2203.15556) found best for a given number of operations
PROCESS_OF_GENERATION = 260 << 20  # bytes of Python and torch, loaded to write
BUSY = 512  # n_embd: a smaller model keeps no GPU busy
LONG_TEXT = 10**10  # tokens: so many that no model knows them by heart


class Place(NamedTuple):
    """Where it would be trained. `room`: bytes in all, `free`: of those now, `before`: those that this process has."""

    device: torch.device
    threads: int
    room: int
    free: int
    before: int

    @property
    def available(self) -> int:
        """Bytes that training could have now: a process that trains has no need of this one."""
        return self.free if self.device.type == "cuda" else min(self.room, self.free + self.before)


@threads_restored()
def plan(config: RunConfig, tokens: float = 0.0) -> dict[str, Any]:
    """All of it, JSON-ready; memory in bytes, times in seconds. `tokens`: what the time is for; 0: the run's own, or where
    nothing says how many those are, TOKENS_A_PARAMETER. Nothing is trained; on this machine a piece of a step is measured
    where the model fits. Raises ConfigError for what training would refuse, or where the vocabulary is unknown."""
    before = psutil.Process().memory_info().rss
    config, is_guess = with_vocabulary(with_parent(config))
    if config.data.task == "labels":  # a classifier has no output matrix of its own
        config = config.resolved(tie_embeddings=True)
    device = torch.device(decide_device(config.machine.device).choice)
    threads = decide_threads(config.machine.threads)
    asked_for, sizes = config.model, sizes_of(config)
    size = sizes[0] if sizes else None
    if len(sizes) > 1:
        config, size, _ = sized(config, LONG_TEXT)
    require_batch(config)
    require_replicas(config, device, threads)
    on_cuda = device.type == "cuda"
    room = torch.cuda.get_device_properties(device).total_memory if on_cuda else total_memory()
    place = Place(device, threads, room, free_memory(device), before)
    here, speed = on_this_machine(config, place)
    flops = flops_a_token(config)
    budget, of_what = budget_of(config, tokens, speed)
    machines = [here, *(on_gpu(config, gpu) for gpu in GPUS)]
    for machine in machines:
        rate = machine["tokens_per_second"]
        machine["seconds"] = budget / rate if rate and machine["fits"] else None

    def to_need(changed: RunConfig, micro_batch_size: int, replicas: int) -> int:
        return needed(changed, micro_batch_size, replicas, place, with_copy=False)

    return {
        "preset": config.preset,
        "task": config.data.task,
        "architecture": config.model.architecture,
        "shape": shape(config.model),
        "sized_for_minutes": config.train.minutes if config.model != asked_for else None,
        "vocabulary_guessed": is_guess,
        "parameters": parameters(config.model, config.finetune),
        "flops_a_token": flops,
        "tokens_a_step": tokens_a_step(config),
        "batch_size": config.train.batch_size,
        "training": parts_of_memory(config, here, place),
        "generation": generation(config.model) if config.data.task != "labels" else {},
        "tokens": int(budget),
        "tokens_of": of_what,
        "short_below": short_below(config, size, budget) if size and speed and not tokens else None,
        "machines": machines,
        "advice": advice(config, here, place.available, to_need),
        "diagram": diagram(config.model, here["micro_batch_size"], is_classifier=config.data.task == "labels"),
    }


def with_parent(config: RunConfig) -> RunConfig:
    """With the shape of the model that it goes on from. A published one has its preset's, and is not fetched."""
    source = config.finetune.from_
    if not source or is_settled(config):  # a run's config.toml has the shape
        return config
    from glassgpt.train.parent import Parent, fit_to_parent, open_parent  # they load every format

    if source in OF_GPT2 and not Path(source).exists():
        parent = Parent(source, build_config(preset=source).model, {}, None, None, {})
    else:
        parent = open_parent(source, config)
    return fit_to_parent(config, parent)[0]


def on_this_machine(config: RunConfig, place: Place) -> tuple[dict[str, Any], Speed | None]:
    """What it needs here, and how fast it is, measured where it fits."""
    size = config.train.micro_batch_size or fitting_micro_batch(config, place.device)
    fits = needed(config, size, 1, place, with_copy=False) <= place.room
    speed = measure_speed(config, size, place.device) if fits else None
    replicas = speed.replicas if speed else max(1, config.machine.replicas)
    each = size if config.train.micro_batch_size else size // replicas  # replicas share what was not said
    precision = speed.precision if speed else config.machine.precision
    settled = config.resolved(precision=precision)
    with_trial = "bfloat16" in speed.gains if speed else config.machine.precision == "auto"
    # Where there is no room for a copy, training waits for its checkpoints.
    with_copy, without = (needed(settled, each, replicas, place, with_copy, with_trial) for with_copy in (True, False))
    has_room = with_copy <= place.room
    return {
        "name": name_of(place),
        "measured": True,
        "memory": place.room,
        "needed": with_copy if has_room else without,
        "with_copy": has_room,
        "with_trial": with_trial,
        "micro_batch_size": each,
        "replicas": replicas,
        "precision": precision,
        "fits": fits,
        "is_bound": False,
        "tokens_per_second": speed and tokens_a_step(config) / speed.step,
        "seconds_a_step": speed and speed.step,
        "parts": speed.parts if speed else {},
        "gains": speed.gains if speed else {},
    }, speed


def name_of(place: Place) -> str:
    if place.device.type == "cuda":
        return torch.cuda.get_device_name(place.device)
    return (
        f"here, {place.threads} thread{'s' * (place.threads > 1)}" if place.device.type == "cpu" else "here, Apple GPU"
    )


def on_gpu(config: RunConfig, gpu: GPU) -> dict[str, Any]:
    """An estimate, with the micro batch that training takes: what was asked for, or the largest that leaves half of the memory
    free. Of a model too small to keep it busy only a bound: it is no faster."""
    if config.machine.precision == "auto":
        config = config.resolved(precision="bfloat16")
    is_known = config.machine.precision == "bfloat16"  # a peak in float32 is not
    size = config.train.micro_batch_size or fitting_micro_batch(config, torch.device("cuda"), gpu.memory // 2)
    takes = gpu_bytes(config, size)
    return {
        "name": gpu.name,
        "measured": False,
        "share_of_peak": SHARE_OF_PEAK,
        "memory": gpu.memory,
        "needed": takes,
        "micro_batch_size": size,
        "replicas": 1,
        "precision": config.machine.precision,
        "fits": takes <= gpu.memory,
        "is_bound": config.model.n_embd < BUSY,
        "tokens_per_second": estimated_tokens_per_second(gpu, sum(flops_a_token(config).values()))
        if is_known
        else None,
    }


def flops_a_token(config: RunConfig) -> dict[str, int]:
    """A backward is two forwards; of weights that do not learn, one. With gradient checkpointing the forward of the blocks is
    done again, up to the last matrix of each, whose product nobody needs. Scoring labels counts for nothing."""
    c = config.model
    attention, adapters = attention_flops(c), 2 * count_adapters(c, config.finetune)
    output = 0 if config.data.task == "labels" else 2 * c.vocab_size * c.n_embd
    matrices = 2 * hidden_matrices(c)
    of_weights = 1 if config.finetune.lora else 2
    blocks = attention + matrices + adapters
    return {
        "forward": blocks + output,
        "backward": 2 * (attention + adapters) + of_weights * (matrices + output),
        "recomputed": blocks - 2 * c.n_layer * c.mlp_width * c.n_embd if config.train.gradient_checkpointing else 0,
    }


def tokens_a_step(config: RunConfig) -> int:
    return config.train.batch_size * config.model.context_length


def budget_of(config: RunConfig, asked: float, speed: Speed | None) -> tuple[float, str]:
    """How many tokens the time is for, and which ones those are."""
    minutes, steps = config.train.minutes, config.train.max_steps
    if asked:
        return asked, "what was asked for"
    if steps:
        return steps * tokens_a_step(config), "the run's own"
    if speed is not None:
        steps = max(1, int(60 * minutes / speed.step))
        return steps * tokens_a_step(config), f"at most what the run's {minutes:g} minutes are worth"
    most = TOKENS_A_PARAMETER * count_parameters(config.model).total
    return most, f"{TOKENS_A_PARAMETER} for each parameter (Hoffmann et al. 2022)"


def short_below(config: RunConfig, size: Size, budget: float) -> int | None:
    """The tokens of a text that training knows by heart before its minutes are over, or takes a smaller size for. None: its
    minutes are for so few steps that it does neither."""
    to_be_taken = 60 * size.minutes * size.tokens_per_second
    by_heart = budget if budget > FEWEST_STEPS * tokens_a_step(config) else 0
    to_learn_from = min(max(to_be_taken, by_heart) / size.most_passes, LONGEST_SHORT_TEXT)
    return round(to_learn_from / (1 - VALIDATION_SHARE)) or None


def needed(
    config: RunConfig,
    micro_batch_size: int,
    replicas: int,
    place: Place,
    with_copy: bool,
    with_trial: bool | None = None,
) -> int:
    """Bytes of the process, or on a GPU of its memory; as `process_memory`, with a trial unless it is known that there is
    none."""
    if place.device.type == "cuda":
        return gpu_bytes(config, micro_batch_size)
    if with_trial is None:
        with_trial = config.machine.precision == "auto"
    return process_memory(
        config, micro_batch_size, replicas=replicas, before=place.before, with_copy=with_copy, with_trial=with_trial
    ).total


def gpu_bytes(config: RunConfig, micro_batch_size: int) -> int:
    """The copy for a checkpoint lies in the machine's own memory. What is compiled there holds all logits."""
    memory = training_memory(config, micro_batch_size, whole_logits=config.machine.compile != "off", on_cpu=False)
    return CONTEXT + int(ALLOCATOR * memory.tensors)


def parts_of_memory(config: RunConfig, here: dict[str, Any], place: Place) -> dict[str, int]:
    """Bytes of each part when it takes the most, which is not for all of them at the same moment."""
    config, size, replicas = config.resolved(precision=here["precision"]), here["micro_batch_size"], here["replicas"]
    on_cuda = place.device.type == "cuda"
    step = training_memory(
        config, size, whole_logits=config.machine.compile == "on" or (on_cuda and config.machine.compile != "off"),
        on_cpu=not on_cuda,
    )  # fmt: skip
    learning = step.optimizer // 2 if config.finetune.lora else step.weights
    parts = {
        "weights": step.weights,
        "gradients": learning * replicas,
        "optimizer": step.optimizer,
        "activations": max(step.most_activations, step.activations) * replicas,
        "logits": max(step.most_logits, step.logits) * replicas,
    }
    if on_cuda:
        return {"python_and_torch": CONTEXT} | parts | {"fragmentation": int((ALLOCATOR - 1) * step.tensors)}
    with_what = {name: here[name] for name in ("with_copy", "with_trial")}
    of_all = process_memory(config, size, replicas=replicas, before=place.before, **with_what)._asdict()
    others = ("fragmentation", "validation", "trial", "checkpoint")
    return {"python_and_torch": of_all["python_and_torch"]} | parts | {name: of_all[name] for name in others}


def generation(c: GPTConfig) -> dict[str, int]:
    """Bytes, for one text of a whole context in float32."""
    weights, cache = bytes_of(count_parameters(c).total), cache_bytes(c, 1)
    working = generation_bytes(c, 1) - cache
    return {"python_and_torch": PROCESS_OF_GENERATION, "weights": weights, "cache": cache, "working": working}
