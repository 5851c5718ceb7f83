"""The loop: batches in, updates, and now and then a look at how it goes. Everything it needs is handed to it."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from glassgpt.checkpoint import Run, as_argument, save_checkpoint
from glassgpt.checkpoint.checkpoint import Checkpoint, load_weights
from glassgpt.config import RunConfig
from glassgpt.data import Batch, DataFolder, training_batches, validation_batches, validation_tokens
from glassgpt.errors import GlassError, Stopped
from glassgpt.finetune import Template
from glassgpt.model import LanguageModel
from glassgpt.model.lora import lora_of
from glassgpt.train.evaluate import TOKENS_AT_ONCE, evaluate, score
from glassgpt.train.guards import StopRequest, stop_on_signal
from glassgpt.train.loss import chunked_loss
from glassgpt.train.observers import MetricsFile, Observer, SampleFiles
from glassgpt.train.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from glassgpt.train.parallel import Parallel, SingleDevice
from glassgpt.train.plan import Measured, length_share, plan
from glassgpt.train.schedule import fewest_steps, learning_rate_at
from glassgpt.train.step import Loss, update

# The speed is measured over at least so many steps and seconds, and over this share of the time that was given, so that
# a long run is planned from a long look; but where steps are slow, over no more than the second share or the minute.
MEASURED_STEPS, MEASURED_SECONDS, MEASURED_SHARE = 10, 1.0, 0.03
LONGEST_MEASURED_SHARE, LONGEST_MEASURED_SECONDS = 0.1, 60.0


class Trainer:
    """One run's training. `fit` takes it from where it is to its last step."""

    def __init__(
        self,
        *,
        run: Run,
        config: RunConfig,
        model: LanguageModel,
        data: DataFolder,
        device: torch.device,
        observers: Sequence[Observer] = (),
        sample: Callable[[LanguageModel], str] | None = None,
        loss: Loss = chunked_loss,
        parallel: Parallel | None = None,
        deadline: float = math.inf,
        carried: Mapping[str, Any] | None = None,
        template: Template | None = None,
    ) -> None:
        """`config` has its machine settings and its micro batch settled. `sample` writes a text with the model as it is.
        `deadline` (time.monotonic) is when the run has to be over, where `minutes` was asked for. `carried` goes into the
        state of every checkpoint: what the model that the run goes on from came with; its `template` goes along, where the
        data has none."""
        self.run, self.config, self.data, self.device = run, config, data, device
        self.parallel = parallel or SingleDevice()
        self.model = model
        self.trained = self.parallel.prepare(model)
        self.optimizer = build_optimizer(model, config.train)
        self.batches = training_batches(data, config.model.context_length, config.train.seed)
        self.tokenizer_json = (data.path / "tokenizer.json").read_text(encoding="utf-8")
        self.template = None if data.meta.labels else data.template() or template
        self.metrics_file = MetricsFile(run, config.train.log_every)
        self.observers: list[Observer] = [self.metrics_file, SampleFiles(run), *observers]
        self.sample, self.loss, self.deadline = sample, loss, deadline
        self.carried = dict(carried or {})
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0  # in the loop, earlier sittings included
        self.step_times: deque[float] = deque(maxlen=100)
        self.measured_steps, self.measured_seconds = 0, 0.0
        self.sample_seconds = 0.0
        self.resumed = False

    @property
    def precision(self) -> str:
        return self.config.machine.precision

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint: the next step is the one that would have followed it, bit for bit."""
        load_weights(self.model, checkpoint.weights(), str(checkpoint.folder))
        load_optimizer_tensors(self.model, self.optimizer, checkpoint.optimizer_tensors(), str(checkpoint.folder))
        self.step, self.seconds = checkpoint.state["step"], checkpoint.state["seconds"]
        self.tokens = checkpoint.state["tokens"]
        self.deadline -= self.seconds
        self.metrics_file.cut(checkpoint.state["metrics_bytes"])
        self.resumed = True

    def fit(self) -> None:
        """Train to the last step. Raises Stopped after a signal, once everything is saved."""
        self.began = time.monotonic() - self.seconds
        self.model.train()
        with stop_on_signal(self._tell_stop) as stop:
            try:
                self._tell("on_start", self.run, self.config, self.step, self.deadline)
                if self.resumed:
                    self._look_up(save=False)  # what followed the checkpoint was cut off, so it is done again
                else:
                    self._write_sample()
                while self.config.train.minutes or self.step < self.config.train.max_steps:
                    self._one_step()
                    if self._plan_is_due():
                        self._plan()
                    if stop:
                        self._stop(stop)
                    self._look_up(save=True)
            finally:
                self.seconds = time.monotonic() - self.began
                self._tell("on_end")

    def _one_step(self) -> None:
        before = time.perf_counter()
        train = self.config.train
        learning_rate = learning_rate_at(self.step, train)
        try:
            result = update(
                self.trained,
                self.optimizer,
                self._batch(self.step),
                step=self.step,
                learning_rate=learning_rate,
                config=train,
                precision=self.precision,
                loss=self.loss,
                rank=self.parallel.rank,
            )
        except GlassError as error:
            resume = f"glassgpt resume {as_argument(self.run.folder)}"
            raise GlassError(f"{error} in {self.run.config_file}, then go on with: {resume}") from None
        tokens_in_step = self.batches.tokens_in(self.step, train.batch_size)
        self.step += 1
        self.tokens += tokens_in_step
        self.step_times.append(time.perf_counter() - before)
        self.measured_steps, self.measured_seconds = (
            self.measured_steps + 1,
            self.measured_seconds + self.step_times[-1],
        )
        metrics = {
            "train_loss": result.train_loss,
            "learning_rate": learning_rate,
            "grad_norm": result.grad_norm,
            "tokens": self.tokens,
            "seconds": time.monotonic() - self.began,
            "tokens_per_second": tokens_in_step / statistics.median(list(self.step_times)[-20:]),
        }
        self._tell("on_step", self.step, metrics)

    def _batch(self, step: int) -> Batch:
        size = self.config.train.batch_size // self.parallel.world_size
        rows = slice(self.parallel.rank * size, (self.parallel.rank + 1) * size)
        batch = self.batches.batch(step, self.config.train.batch_size, rows)
        return Batch(batch.tokens.to(self.device), batch.targets.to(self.device))

    # What is due after a step. Saving comes first: whatever fails afterwards has lost nothing.

    def _look_up(self, save: bool) -> None:
        train = self.config.train
        last = not train.minutes and self.step == train.max_steps
        evaluation_due = last or self._is_due(train.eval_every)
        save_due = evaluation_due or self._is_due(train.save_every)
        if save and save_due:
            self._save()
        if evaluation_due:
            self._evaluate()
        if save_due:
            problem = self.run.prune(train.keep_checkpoints)  # after validation, which may have found a new best one
            if problem:
                self._tell("on_message", problem)
        if last or self._is_due(train.sample_every):
            self._write_sample()

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step > 0 and self.step % every == 0

    def _save(self) -> None:
        folder = self.run.checkpoint_folder(self.step)
        save_checkpoint(
            folder,
            config=self.config.model,
            weights={name: p for name, p in self.model.named_parameters() if p.requires_grad},
            lora=lora_of(self.config.finetune),
            optimizer_tensors=optimizer_tensors(self.model, self.optimizer),
            tokenizer_json=self.tokenizer_json,
            template=self.template,
            labels=self.data.meta.labels,
            state=self.carried
            | {
                "step": self.step,
                "tokens": self.tokens,
                "seconds": time.monotonic() - self.began,
                "metrics_bytes": self.metrics_file.size(),
                "data_fingerprint": self.data.meta.fingerprint,
                "data_content": self.data.meta.content_hash,
                "settings": self.config.flat(),
            },
        )
        self._tell("on_save", self.step, folder)

    def _evaluate(self) -> None:
        result = evaluate(self.model, self.data, self.device, self.precision)
        best = self.run.best()
        if best is None or result["val_loss"] < best["val_loss"] or best["step"] >= self.step:
            self.run.write_best(self.step, result["val_loss"])
            best = {"val_loss": result["val_loss"]}
        self._tell("on_evaluation", self.step, {**result, "best_val_loss": best["val_loss"]})

    def _write_sample(self) -> None:
        if self.sample is None:
            return
        before = time.perf_counter()
        self.model.eval()
        try:
            with torch.inference_mode():
                text = self.sample(self.model)
        except GlassError as error:
            self._tell("on_message", f"no sample: {error}")
        else:
            self._tell("on_sample", self.step, text)
        finally:
            self.model.train()
        self.sample_seconds = time.perf_counter() - before

    def _tell_stop(self) -> None:
        self._tell("on_message", "stopping once this step is done and saved; once more stops at once, unsaved")

    def _stop(self, stop: StopRequest) -> None:
        self._save()
        of_all = f" of {self.config.train.max_steps}" if self.config.train.max_steps else ""
        raise Stopped(
            f"stopped after step {self.step}{of_all}, saved; go on with: glassgpt resume {as_argument(self.run.folder)}",
            stop.signal_number,
        )

    # The plan: the intervals are settled once the speed of the first steps is known, max_steps under `minutes` then or
    # later (train/plan.py). Both are written to the run's config.toml.

    def _plan_is_due(self) -> bool:
        if not self._has_intervals():
            return self._has_measured()
        return bool(self.config.train.minutes) and self._length_is_due()

    def _has_intervals(self) -> bool:
        train = self.config.train
        return bool(train.eval_every and train.save_every and train.sample_every)

    def _has_measured(self) -> bool:
        train, time_given = self.config.train, 60 * self.config.train.minutes
        enough = max(MEASURED_SECONDS, MEASURED_SHARE * time_given)
        longest = LONGEST_MEASURED_SHARE * time_given or LONGEST_MEASURED_SECONDS
        # The rise of the learning rate does not depend on max_steps, an early fall does: the plan has to stand by then.
        latest = math.inf if self._waits_for_length() else train.warmup_steps if train.minutes else train.max_steps
        return (
            (self.measured_steps >= MEASURED_STEPS and self.measured_seconds >= enough)
            or self.measured_seconds >= longest
            or self.step >= latest
        )

    def _waits_for_length(self) -> bool:
        return bool(self.config.train.minutes and length_share(self.config.train.schedule))

    def _length_is_due(self) -> bool:
        train = self.config.train
        due = self.deadline - (1 - length_share(train.schedule)) * 60 * train.minutes
        return self._has_measured() and (not self._waits_for_length() or time.monotonic() >= due)

    def _plan(self) -> None:
        train = self.config.train
        fix_length = not train.minutes or self._length_is_due()
        times = list(self.step_times)
        steps = times[2:] or times  # the first ones also pay for memory and kernels
        # A number of steps that is fixed late is fixed from all of them: a moment's load then counts as the moment it was.
        late = fix_length and self._waits_for_length()
        step_seconds = self.measured_seconds / self.measured_steps if late else statistics.median(steps)
        measured = Measured(step_seconds, self._evaluation_seconds(), self.sample_seconds, save=0.3)
        seconds_left = self.deadline - time.monotonic() if train.minutes else None
        settled = plan(train, step=self.step, seconds_left=seconds_left, measured=measured, fix_length=fix_length)
        self.config = replace(self.config, train=settled)
        self.run.write_config(self.config)
        self._tell("on_plan", self.config)
        shortest = max(fewest_steps(self.step, train), train.warmup_steps)
        if train.minutes and fix_length and settled.max_steps <= shortest:
            self._tell(
                "on_message",
                f"the time is short: a step takes {measured.step:.2g} s and a validation {measured.evaluation:.2g} s, so "
                f"{settled.max_steps} steps are all that fits; give more minutes, a smaller model or less text",
            )

    def _evaluation_seconds(self) -> float:
        """Measured on a piece of the validation text."""
        context_length = self.config.model.context_length
        batches = validation_batches(self.data, context_length, TOKENS_AT_ONCE)
        first, piece = next(batches), list(islice(batches, 1))
        score(self.model, [Batch(first.tokens[:1], first.targets[:1])], self.device, self.precision)
        before = time.perf_counter()
        score(self.model, [first, *piece], self.device, self.precision)
        measured = sum(batch.tokens.numel() for batch in [first, *piece])
        whole = max(measured, validation_tokens(self.data, context_length))
        return (time.perf_counter() - before) * whole / measured

    def _tell(self, event: str, *details: object) -> None:
        for observer in self.observers:
            getattr(observer, event)(*details)
