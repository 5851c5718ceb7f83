"""The loop: batches in, updates, and now and then a look at how it goes. Everything it needs is handed to it."""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from glassgpt.checkpoint import Run
from glassgpt.config import RunConfig
from glassgpt.data import Batch, DataFolder, training_batches
from glassgpt.disk import as_argument
from glassgpt.errors import GlassError, MachineError, Stopped, is_out_of_memory
from glassgpt.finetune import Template
from glassgpt.model import LanguageModel
from glassgpt.train.evaluate import evaluate
from glassgpt.train.guards import Interrupted, StopRequest, smaller_micro_batch, stop_on_signal
from glassgpt.train.loss import chunked_loss
from glassgpt.train.observers import Audience, MetricsFile, Observer, SampleFiles
from glassgpt.train.optimizer import build_optimizer
from glassgpt.train.pace import Pace, evaluation_seconds
from glassgpt.train.parallel import Parallel, SingleDevice
from glassgpt.train.replicas import Replicas
from glassgpt.train.saver import Saver
from glassgpt.train.schedule import learning_rate_at
from glassgpt.train.state import checkpoint_of
from glassgpt.train.step import Loss, StepResult, update
from glassgpt.train.watch import Watch, first_not_finite, in_words, more_slowly


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
        started: float | None = None,
        deadline: float = math.inf,
        carried: Mapping[str, Any] | None = None,
        template: Template | None = None,
        at_last: Callable[[], object] = lambda: None,
    ) -> None:
        """`config` has its machine settings and its micro batch settled. `sample` writes a text with the model as it is.
        `started` (time.monotonic) is when this sitting began, now where nothing is said, and `deadline` when the run has to be
        over, where `minutes` was asked for. `carried` goes into the state of every checkpoint: what the model that the run
        goes on from came with; its `template` goes along, where the data has none. `at_last` is called when the last step is
        done, before what follows it."""
        self.run, self.config, self.data, self.device = run, config, data, device
        self.parallel = parallel or SingleDevice()
        self.model = model
        self.trained = self.parallel.prepare(model)
        self.replicas = Replicas(self.trained, max(1, config.machine.replicas))
        # Of validations, on this process alone.
        self.readers = self.replicas if self.replicas.count > 1 else Replicas(model)
        self.optimizer = build_optimizer(model, config.train, config.machine.precision)
        self.batches = training_batches(data, config.model.context_length, config.train.seed)
        self.tokenizer_json = (data.path / "tokenizer.json").read_text(encoding="utf-8")
        self.template = None if data.meta.labels else data.template() or template
        self.metrics_file = MetricsFile(run, config.train.log_every)
        self.tell = Audience([self.metrics_file], [SampleFiles(run), *observers])
        self.sample, self.loss = sample, loss
        self.carried, self.at_last = dict(carried or {}), at_last
        self.watch, self.pace, self.saver = Watch(config.train), Pace(deadline), Saver(run, self.tell)
        self.stop = StopRequest()
        self.step = 0
        self.tokens = 0
        self.best: dict[str, Any] | None = None  # {"step": ..., "val_loss": ...}
        self.skipped = 0  # of the last steps, in this sitting
        self.seconds = 0.0  # in the loop, earlier sittings included
        self.started = time.monotonic() if started is None else started
        self.earlier = 0.0  # seconds in all of the sittings before this one, up to where it goes on
        self.resumed = False
        # Of the step that this sitting began at: whether it was validated in an earlier one, or should have been.
        self.validated = self.validation_was_due = False

    def fit(self) -> None:
        """Train to the last step. Raises Stopped after a signal, once everything is saved."""
        self.began = time.monotonic() - self.seconds
        self.model.train()
        with stop_on_signal(self._tell_stop) as self.stop:
            try:
                self.tell("on_start", self.run, self.config, self.step, self.pace.deadline)
                if not self.resumed:
                    self._save()
                    self.pace.save_seconds = self.saver.waited  # a validation waits for one to be written
                    self.run.require_room(self.run.checkpoint_folder(self.step))  # for at least the last one
                if problem := self.run.problem_of_room(self.config.train.keep_checkpoints, self._saves_to_come()):
                    self.tell("on_message", problem)
                self._look_up(save=False)  # after a resume: what followed the checkpoint was cut off, and is done again
                while not self._is_last():
                    self._one_step()
                    self.saver.look()
                    if self.pace.plan_is_due(self.config.train, self.step):
                        self._plan()
                    if self.stop:
                        raise Interrupted
                    self._look_up(save=True)
            except Interrupted:
                self._stop()
            except Exception:
                self._end_of_saving()
                raise
            finally:
                self.seconds = time.monotonic() - self.began
                self._end_of_row()
                self.tell("on_end")

    def _is_last(self) -> bool:
        return not self.config.train.minutes and self.step >= self.config.train.max_steps

    def _one_step(self) -> None:
        before = time.perf_counter()
        train = self.config.train
        learning_rate = learning_rate_at(self.step, train)
        tokens_in_step = self.batches.tokens_in(self.step, train.batch_size)
        batch = self._batch(self.step)
        result = self._update(batch, learning_rate)
        diagnosis = self._diagnosis(batch, learning_rate) if self.watch.fault else None
        if not result.applied:
            self.model.zero_grad()
        self.watch.add(result)
        self.step += 1
        self.tokens += tokens_in_step
        self.pace.add(time.perf_counter() - before)
        metrics = {
            "train_loss": result.train_loss,
            "learning_rate": learning_rate,
            "grad_norm": result.grad_norm,
            "tokens": self.tokens,
            "seconds": time.monotonic() - self.began,
            "tokens_per_second": tokens_in_step / self.pace.step_seconds,
        }
        self.tell("on_step", self.step, metrics)
        if result.applied:
            self._end_of_row()
        if diagnosis is not None:
            self._report_fault(result.applied, diagnosis)

    def _update(self, batch: Batch, learning_rate: float) -> StepResult:
        """The update, with as many micro batches as memory needs."""
        while True:
            try:
                return update(
                    self.trained,
                    self.optimizer,
                    batch,
                    step=self.step,
                    learning_rate=learning_rate,
                    config=self.config.train,
                    precision=self.config.machine.precision,
                    loss=self.loss,
                    rank=self.parallel.rank,
                    replicas=self.replicas,
                    allows=self.watch.allows,
                )
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # Only now, when nothing holds on to the attempt any more, is its memory free.
            self._shrink()

    def _shrink(self) -> None:
        train = self.config.train
        size = smaller_micro_batch(train.micro_batch_size, train.batch_size)
        if not size:
            raise MachineError(
                f"out of memory at micro_batch_size {train.micro_batch_size}; take a smaller model or context_length, "
                "--gradient-checkpointing, or close other programs"
            )
        self.replicas.forget_gradients()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.tell(
            "on_message",
            f"step {self.step + 1}: out of memory at micro_batch_size {train.micro_batch_size}; going on with {size}, "
            f"{train.batch_size // size} of them an update: the same batches, equal to rounding",
        )
        self.config = replace(self.config, train=replace(train, micro_batch_size=size))
        self.run.write_config(self.config)

    def _batch(self, step: int) -> Batch:
        size = self.config.train.batch_size // self.parallel.world_size
        rows = slice(self.parallel.rank * size, (self.parallel.rank + 1) * size)
        batch = self.batches.batch(step, self.config.train.batch_size, rows)
        return Batch(batch.tokens.to(self.device), batch.targets.to(self.device))

    # What is due after a step. Saving comes first: whatever fails afterwards has lost nothing.

    def _look_up(self, save: bool) -> None:
        train, last = self.config.train, self._is_last()
        if last:
            self.at_last()
        evaluation_due = last or self._is_due(train.eval_every) or (not save and self.validation_was_due)
        # The one before the first step says how long one takes, where the intervals or the length follow from that.
        to_plan = self.step == 0 and bool(train.minutes or not train.sample_every)
        sample_due = last or to_plan or self._is_due(train.sample_every)
        save_due = evaluation_due or sample_due or self._is_due(train.save_every) or self.saver.failed
        # Steps that were skipped have changed nothing, and the update before them may be what went wrong.
        if save and save_due and self.watch.is_finite:
            self._save()
        if evaluation_due and self.step and (save or not self.validated):
            self._evaluate(last)
        if sample_due and self.sample is not None:
            self._write_sample(self.sample)
        if last:
            self._secure()
            problem = self.run.prune(train.keep_checkpoints)  # the last validation may have found a new best one
            if problem:
                self.tell("on_message", problem)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step > 0 and self.step % every == 0

    def _saves_to_come(self) -> float:
        train = self.config.train
        intervals = train.eval_every, train.save_every, train.sample_every
        if not (train.max_steps and all(intervals)):
            return math.inf
        return sum((train.max_steps - 1) // every - self.step // every for every in intervals) + 1

    def _save(self) -> None:
        tensors, rest = checkpoint_of(self)
        self.saver.save(self.step, self.config.train.keep_checkpoints, tensors, rest)

    def _secure(self) -> None:
        """Come back when this very step is on the disk."""
        self.saver.finish()
        while self.saver.failed or self.saver.step != self.step:
            self._save()
            self.saver.finish()

    def _end_of_saving(self) -> None:
        """Where something else has ended the run, what is being written is still finished."""
        try:
            self.saver.finish()
        except GlassError as error:
            self.tell("on_message", str(error))

    def _evaluate(self, last: bool) -> None:
        try:
            with self.stop.at_once():
                result = evaluate(self.model, self.data, self.device, self.config.machine.precision, self.readers)
            if not math.isfinite(result["val_loss"]):
                raise GlassError(f"val_loss is {result['val_loss']}")
        except Exception as error:  # whatever it is, the training is worth more
            if last:
                self._secure()
                raise GlassError(
                    f"all {self.step} steps are done and saved, but the last validation failed ({in_one_line(error)}); try "
                    f"it again with: glassgpt resume {as_argument(self.run.folder)}"
                ) from error
            self.tell("on_message", f"step {self.step}: the validation failed ({in_one_line(error)}); training goes on")
            return
        self._secure()  # best.json names no checkpoint that is not there
        if self.best is None or result["val_loss"] < self.best["val_loss"]:
            self.best = {"step": self.step, "val_loss": result["val_loss"]}
            self.run.write_best(**self.best)
        self.tell("on_evaluation", self.step, {**result, "best_val_loss": self.best["val_loss"]})

    def _write_sample(self, sample: Callable[[LanguageModel], str]) -> None:
        before = time.perf_counter()
        self.model.eval()
        try:
            with self.stop.at_once(), torch.inference_mode():
                text = sample(self.model)
        except Exception as error:
            self.tell("on_message", f"no sample: {in_one_line(error)}")
        else:
            self.tell("on_sample", self.step, text)
        finally:
            self.model.train()
        self.pace.sample_seconds = time.perf_counter() - before

    def _diagnosis(self, batch: Batch, learning_rate: float) -> dict[str, Any]:
        train, precision, rank = self.config.train, self.config.machine.precision, self.parallel.rank
        return self.watch.diagnosis(
            lambda: first_not_finite(self.model, batch, step=self.step, config=train, precision=precision, rank=rank)
        ) | {"learning_rate": learning_rate, "batch": self.batches.places(self.step, train.batch_size)}

    def _report_fault(self, applied: bool, diagnosis: Mapping[str, Any]) -> None:
        self.tell("on_fault", self.step, {"skipped": not applied, **diagnosis})
        line = f"step {self.step}: {in_words(diagnosis, applied)}"
        if not applied:
            self.skipped += 1
        if self.watch.gives_up:
            self.skipped = 0
            raise GlassError(
                f"{line}{self.watch.how_often()}; more is in {self.run.metrics_file}; go on more slowly: "
                f"glassgpt resume {as_argument(self.run.folder)} {more_slowly(self.config.train)}; if it is the same at "
                f"once, move the newest checkpoint out of {self.run.checkpoints_folder} first"
            )
        if self.skipped < 2:
            self.tell("on_message", line)

    def _end_of_row(self) -> None:
        """Of steps that are skipped one after the other, the first is described, and at the end all are counted."""
        if self.skipped > 1:
            self.tell(
                "on_message",
                f"{self.skipped} steps in a row were skipped; what was wrong with each is in {self.run.metrics_file}",
            )
        self.skipped = 0

    def _tell_stop(self) -> None:
        seconds = self.pace.step_seconds if self.pace.steps else 0.0
        wait = f" (a step takes {seconds:.0f} s)" if seconds > 2 else ""
        self.tell("on_message", f"stopping once this step is done and saved{wait}; once more stops at once, unsaved")

    def _stop(self) -> None:
        self._secure()
        of_all = f" of {self.config.train.max_steps}" if self.config.train.max_steps else ""
        raise Stopped(
            f"stopped after step {self.step}{of_all}, saved; go on with: glassgpt resume {as_argument(self.run.folder)}",
            self.stop.signal_number,
        )

    def _plan(self) -> None:
        def measure() -> float:
            context_length, precision = self.config.model.context_length, self.config.machine.precision
            try:
                with self.stop.at_once():
                    return evaluation_seconds(self.readers, self.data, context_length, self.device, precision)
            except Exception as error:  # each validation will say so again, and may be better
                self.tell("on_message", f"a trial of the validation failed ({in_one_line(error)}); training goes on")
                return 0.0

        settled, problem = self.pace.settle(self.config.train, self.step, measure)
        self.config = replace(self.config, train=settled)
        self.run.write_config(self.config)
        self.tell("on_plan", self.config)
        if problem:
            self.tell("on_message", problem)


def in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, GlassError) else f"{type(error).__name__}: {text}"
