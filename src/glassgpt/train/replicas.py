"""Several micro batches at the same time, each with its own CPU thread and its own twin of the model.

Torch shares out every operation of a small model among its threads, and after each one they wait for each other, up to a
hundred times a step. Whole micro batches side by side meet once.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch
from torch import nn

Task = TypeVar("Task")
Result = TypeVar("Result")


class Replicas:
    """A model and its twins: the same weights in the same memory, gradients of their own. With `count` 1, just the model."""

    def __init__(self, model: nn.Module, count: int = 1) -> None:
        self.models = [model, *(twin(model) for _ in range(count - 1))]
        self.count = count
        self.threads = ThreadPoolExecutor(count - 1, "replica", torch.set_num_threads, (1,)) if count > 1 else None

    def at_once(self, work: Callable[[nn.Module, Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """`work(model, task)` for at most `count` tasks at the same time, each with a model of its own. What autocast or
        `torch.inference_mode` is to do, `work` enters itself: torch keeps it for each thread."""
        (first, *others), (model, *twins) = tasks, self.models
        running = []
        if self.threads is not None:
            running = [self.threads.submit(work, m, task) for m, task in zip(twins, others, strict=False)]
        try:
            result = work(model, first)
        finally:
            wait(running)
        return [result, *(done.result() for done in running)]

    def map(self, work: Callable[[nn.Module, Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """`at_once` until all are done; the results in order."""
        tasks = iter(tasks)
        while now := list(islice(tasks, self.count)):
            yield from self.at_once(work, now)

    def add_gradients(self) -> None:
        """Those of the twins to the model's, in order: the sum has the bits of micro batches one after the other on one
        thread."""
        for other in self.models[1:]:
            gradients = [p.grad for p in other.parameters() if p.grad is not None]
            if gradients:  # else it had no micro batch
                torch._foreach_add_([p.grad for p in self.models[0].parameters() if p.grad is not None], gradients)
                other.zero_grad()

    def forget_gradients(self) -> None:
        for model in self.models:
            model.zero_grad()


def twin(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers lie in the model's own memory."""
    shared = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, {**shared, **{id(b): b for b in model.buffers()}})
