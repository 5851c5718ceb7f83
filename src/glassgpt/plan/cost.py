"""What a model and its training take: parameters, operations, memory and time, as plain numbers."""

from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from glassgpt.config import GPTConfig, RunConfig, build_config
from glassgpt.machine import decide_device, decide_threads, free_memory, threads_restored, total_memory
from glassgpt.model.size import bytes_of, count_parameters, generation_bytes, training_flops
from glassgpt.plan.counts import parameters, shape, with_vocabulary
from glassgpt.plan.diagram import diagram
from glassgpt.plan.family import SAID
from glassgpt.plan.gpus import ALLOCATOR, CONTEXT, GPU, GPUS, SHARE_OF_PEAK, estimated_tokens_per_second
from glassgpt.plan.speed import Speed, measure_speed
from glassgpt.train.fit import has_sizes, is_settled, sized
from glassgpt.train.memory import LOADED, process_bytes, training_memory
from glassgpt.train.settle import fitting_micro_batch, require_replicas

TOKENS_A_PARAMETER = 20  # what Hoffmann et al. 2022 (2203.15556) found best for a given number of operations
SHORTEST_CONTEXT = 64  # that is worth advising
PROCESS_OF_GENERATION = 260 << 20  # bytes of Python and torch, loaded to write
LONG_TEXT = 10**10  # tokens: so many that no model knows them by heart


class Place(NamedTuple):
    """Where it would be trained. `room`: bytes in all, `free`: of those now, `before`: those that this process has."""

    device: torch.device
    threads: int
    room: int
    free: int
    before: int


@threads_restored()
def plan(config: RunConfig, tokens: float = 0.0) -> dict[str, Any]:
    """All of it, JSON-ready; memory in bytes, times in seconds. `tokens`: what the time is for; 0: the run's own, or where
    nothing says how many those are, TOKENS_A_PARAMETER. Nothing is trained; on this machine a piece of a step is measured
    where the model fits. Raises ConfigError for what training would refuse, or where the vocabulary is unknown."""
    before = psutil.Process().memory_info().rss
    config, is_guess = with_vocabulary(with_parent(config))
    device = torch.device(decide_device(config.machine.device).choice)
    threads = decide_threads(config.machine.threads)
    wanted, config = config, sized(config, LONG_TEXT).config if has_sizes(config) else config
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
    return {
        "preset": config.preset,
        "task": config.data.task,
        "architecture": config.model.architecture,
        "shape": shape(config.model),
        "sized_for_minutes": config.train.minutes if config.model != wanted.model else None,
        "vocabulary_guessed": is_guess,
        "parameters": parameters(config.model),
        "flops_a_token": flops,
        "tokens_a_step": tokens_a_step(config),
        "batch_size": config.train.batch_size,
        "training": parts_of_memory(config, here, place),
        "generation": generation(config.model),
        "tokens": int(budget),
        "tokens_of": of_what,
        "machines": machines,
        "advice": advice(config, here, place),
        "diagram": diagram(config.model, here["micro_batch_size"], is_classifier=config.data.task == "labels"),
    }


def with_parent(config: RunConfig) -> RunConfig:
    """With the shape of the model that it goes on from. A published one has its preset's, and is not fetched."""
    source = config.finetune.from_
    if not source or is_settled(config):  # a run's config.toml has the shape
        return config
    from glassgpt.train.parent import Parent, fit_to_parent, open_parent  # they load every format

    if source in SAID and not Path(source).exists():
        parent = Parent(source, build_config(preset=source).model, {}, None, None, {})
    else:
        parent = open_parent(source, config)
    return fit_to_parent(config, parent)[0]


def on_this_machine(config: RunConfig, place: Place) -> tuple[dict[str, Any], Speed | None]:
    """What it needs here, and how fast it is, measured where it fits."""
    size = config.train.micro_batch_size or fitting_micro_batch(config, place.device)
    fits = needed(config, size, 1, place, with_copy=False) <= place.room
    speed = measure_speed(config, size, place.device) if fits else None
    replicas = speed.replicas if speed else 1
    each = size if config.train.micro_batch_size else size // replicas  # replicas share what was not said
    precision = speed.precision if speed else config.machine.precision
    settled = config.resolved(precision=precision)
    # Where there is no room for a copy, training waits for its checkpoints.
    peaks = [needed(settled, each, replicas, place, with_copy) for with_copy in (True, False)]
    return {
        "name": name_of(place),
        "measured": True,
        "memory": place.room,
        "needed": next((peak for peak in peaks if peak <= place.room), peaks[-1]),
        "micro_batch_size": each,
        "replicas": replicas,
        "precision": precision,
        "fits": fits,
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
    free."""
    config = config.resolved(precision="bfloat16")
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
        "precision": "bfloat16",
        "fits": takes <= gpu.memory,
        "tokens_per_second": estimated_tokens_per_second(gpu, sum(flops_a_token(config).values())),
    }


def flops_a_token(config: RunConfig) -> dict[str, int]:
    """A backward is two forwards, one where the weights get no gradient; with gradient checkpointing the forward is done
    again. Scoring labels counts for nothing."""
    forward = training_flops(config.model) // 3
    if config.data.task == "labels":
        forward -= 2 * config.model.vocab_size * config.model.n_embd
    backward = forward if config.finetune.lora else 2 * forward
    return {
        "forward": forward,
        "backward": backward,
        "recomputed": forward if config.train.gradient_checkpointing else 0,
    }


def tokens_a_step(config: RunConfig) -> int:
    return config.train.batch_size * config.model.context_length


def budget_of(config: RunConfig, asked: float, speed: Speed | None) -> tuple[float, str]:
    """How many tokens the time is for, and which ones those are."""
    own: float = config.train.max_steps * tokens_a_step(config)
    if speed is not None and config.train.minutes:
        own = int(60 * config.train.minutes / speed.step) * tokens_a_step(config)
    if asked:
        return asked, "what was asked for"
    if own:
        return (
            own,
            f"what the run's {config.train.minutes:g} minutes are worth" if config.train.minutes else "the run's own",
        )
    most = TOKENS_A_PARAMETER * count_parameters(config.model).total
    return most, f"{TOKENS_A_PARAMETER} for each parameter (Hoffmann et al. 2022)"


def needed(config: RunConfig, micro_batch_size: int, replicas: int, place: Place, with_copy: bool) -> int:
    """Bytes of the process, or on a GPU of its memory; `with_copy`: a checkpoint is written while training goes on."""
    if place.device.type == "cuda":
        return gpu_bytes(config, micro_batch_size)
    return process_bytes(config, micro_batch_size, replicas=replicas, before=place.before, with_copy=with_copy)


def gpu_bytes(config: RunConfig, micro_batch_size: int) -> int:
    """The copy for a checkpoint lies in the machine's own memory. What is compiled there holds all logits."""
    memory = training_memory(config, micro_batch_size, whole_logits=config.machine.compile != "off")
    return CONTEXT + int(ALLOCATOR * memory.tensors)


def parts_of_memory(config: RunConfig, here: dict[str, Any], place: Place) -> dict[str, int]:
    """Bytes of each part when it takes the most, which is not for all of them at the same moment; and what the process takes
    beyond all of them: what was given back lies between other pieces, and rarely fits again."""
    memory = training_memory(
        config.resolved(precision=here["precision"]), here["micro_batch_size"], replicas=here["replicas"]
    )
    trained = not config.finetune.lora
    parts = {
        "python_and_torch": CONTEXT if place.device.type == "cuda" else place.before + LOADED,
        "weights": memory.weights,
        "gradients": memory.weights * here["replicas"] if trained else 0,
        "optimizer": memory.optimizer,
        "activations": memory.most_activations,
        "logits": memory.most_logits,
        "checkpoint": memory.checkpoint,
    }
    return parts | {"fragmentation": max(0, here["needed"] - sum(parts.values()))}


def generation(c: GPTConfig) -> dict[str, int]:
    """Bytes, for one text of a whole context in float32."""
    weights = bytes_of(count_parameters(c).total)
    cache = bytes_of(2 * c.n_layer * c.kv_heads * c.head_width * c.context_length)
    working = generation_bytes(c, 1) - cache
    return {"python_and_torch": PROCESS_OF_GENERATION, "weights": weights, "cache": cache, "working": working}


def advice(config: RunConfig, here: dict[str, Any], place: Place) -> list[str]:
    """What to change where it does not fit, or not into what is free now: only what then does."""
    available = min(place.room, place.free + place.before)
    if here["fits"] and here["needed"] <= available:
        return []

    def fits(changed: RunConfig, size: int) -> bool:
        return needed(changed, size, 1, place, with_copy=False) <= available

    batch, size = config.train.batch_size, here["micro_batch_size"]
    smaller = (n for n in range(size - 1, 0, -1) if batch % n == 0)
    if (fitting := next((n for n in smaller if fits(config, n)), None)) is not None:
        return [f"--micro-batch-size {fitting}: the same updates, in smaller pieces"]
    if not config.train.gradient_checkpointing and fits(config.resolved(gradient_checkpointing=True), 1):
        return ["--gradient-checkpointing --micro-batch-size 1: less memory, a third slower"]
    if not config.finetune.lora and fits(config.resolved(from_="it", lora=8), 1):
        return [
            "--from MODEL --lora 8 --micro-batch-size 1: adapters of a published model learn, its weights stay as they are"
        ]
    if here["fits"]:
        return ["close other programs: what is free now is less than it needs"]
    context = 2 ** max(0, (config.model.context_length - 1).bit_length() - 1)  # the power of two below it
    while context >= SHORTEST_CONTEXT and not fits(config.resolved(context_length=context), 1):
        context //= 2
    if context >= SHORTEST_CONTEXT:
        return [f"--context-length {context} --micro-batch-size 1: what a step holds grows with the context"]
    return ["nothing here holds it; a smaller preset, or a larger machine"]
