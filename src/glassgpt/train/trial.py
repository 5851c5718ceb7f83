"""A piece of the training to come, done a few times before it begins: so that what is settled is measured and not believed."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from glassgpt.config import RunConfig
from glassgpt.data import Batch, Batches, Examples
from glassgpt.model import LanguageModel
from glassgpt.train.replicas import Replicas
from glassgpt.train.step import Loss, autocast

TRIAL_TOKENS = 4096


class Trial:
    """Forward and backward over a few sequences of the first batch; the model is left as it was."""

    def __init__(
        self,
        config: RunConfig,
        model: LanguageModel,
        batches: Batches | Examples,
        device: torch.device,
        micro_batch_size: int,
    ) -> None:
        self.model, self.batches, self.device = model, batches, device
        self.train, self.micro_batch_size = config.train, micro_batch_size
        self.most_rows = trial_rows(config.model.context_length) if device.type == "cpu" else math.inf

    @property
    def rows(self) -> int:
        """Sequences of one piece: on a CPU a smaller one tells as much about speed, and costs less."""
        return int(min(self.micro_batch_size, self.most_rows))

    def work(self, precision: str, loss: Loss, count: int = 1) -> Callable[[], object]:
        """A function that does one piece: on as many threads as torch has, or shared out among `count` replicas of the
        model."""
        threads, replicas, batch = torch.get_num_threads(), Replicas(self.model, count), self._batch(self.rows)
        shared = (torch.split(tensor, -(-self.rows // count)) for tensor in batch)
        parts = [Batch(*part) for part in zip(*shared, strict=True)]

        def share(model: torch.nn.Module, part: Batch) -> Tensor:
            with autocast(self.device, precision):
                value = loss(model, part)
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        def piece() -> None:
            if count > 1:
                torch.set_num_threads(1)
            try:
                values = replicas.at_once(share, parts)
                replicas.add_gradients()
                torch.stack(values).sum().item()  # a GPU has done nothing before it is waited for
            finally:
                replicas.forget_gradients()
                torch.set_num_threads(threads)

        return piece

    def step_seconds(self, piece: float) -> float:
        """Of a whole step, where `work` takes so long."""
        return piece * self.train.batch_size / self.rows

    def run_seconds(self, piece: float) -> float:
        return 60 * self.train.minutes or self.train.max_steps * self.step_seconds(piece)

    def _batch(self, rows: int) -> Batch:
        batch = self.batches.batch(0, rows)
        return Batch(batch.tokens.to(self.device), batch.targets.to(self.device))


def trial_rows(context_length: int) -> int:
    """The most sequences of a piece on a CPU."""
    return max(1, TRIAL_TOKENS // context_length)


def seconds_of(work: Callable[[], object]) -> float:
    """The best of three, since the first one also pays for memory and kernels; of fewer where one takes a second."""
    best = math.inf
    for _ in range(3):
        before = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - before)
        if best > 1:
            break
    return best
