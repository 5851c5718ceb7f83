"""What makes the next step what it is, as a checkpoint holds it: nothing else is remembered from one step to the next."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from glassgpt.checkpoint import Checkpoint, load_weights
from glassgpt.checkpoint.metrics import cut_metrics, garbled_lines
from glassgpt.checkpoint.verify import problem_of_best
from glassgpt.model.lora import lora_of
from glassgpt.train.optimizer import load_optimizer_tensors, optimizer_tensors

if TYPE_CHECKING:
    from glassgpt.train.trainer import Trainer


def checkpoint_of(trainer: "Trainer") -> tuple[dict[str, Mapping[str, Tensor]], dict[str, Any]]:
    """The arguments of save_checkpoint: those that are tensors, and the others. The learning rate, the order of the text and
    dropout's masks are not among them, since they follow from seed and step."""
    config, data = trainer.config, trainer.data
    tensors: dict[str, Mapping[str, Tensor]] = {
        "weights": {name: p for name, p in trainer.model.named_parameters() if p.requires_grad},
        "optimizer_tensors": optimizer_tensors(trainer.model, trainer.optimizer),
    }
    state = trainer.carried | {
        "step": trainer.step,
        "tokens": trainer.tokens,
        "seconds": time.monotonic() - trainer.began,
        "seconds_in_all": trainer.earlier + time.monotonic() - trainer.started,
        "metrics_bytes": trainer.metrics_file.size(),
        "best": trainer.best,
        "watch": trainer.watch.state(),
        "data_fingerprint": data.meta.fingerprint,
        "data_content": data.meta.content_hash,
        "settings": config.flat(),
    }
    return tensors, {
        "config": config.model,
        "lora": lora_of(config.finetune),
        "tokenizer_json": trainer.tokenizer_json,
        "template": trainer.template,
        "labels": data.meta.labels,
        "state": state,
    }


def restore(trainer: "Trainer", checkpoint: Checkpoint) -> None:
    """Go back to a checkpoint: the next step is the one that would have followed it, bit for bit."""
    load_weights(trainer.model, checkpoint.weights(), str(checkpoint.folder))
    load_optimizer_tensors(trainer.model, trainer.optimizer, checkpoint.optimizer_tensors(), str(checkpoint.folder))
    state = checkpoint.state
    trainer.step, trainer.tokens, trainer.seconds = state["step"], state["tokens"], state["seconds"]
    trainer.earlier = state.get("seconds_in_all", trainer.seconds)
    trainer.pace.deadline -= trainer.earlier
    trainer.pace.begun = trainer.step
    run = trainer.run
    lost = cut_metrics(run.metrics_file, state["metrics_bytes"], trainer.step)
    if problem := garbled_lines(run.metrics_file) or lost:
        trainer.tell("on_message", f"{run.metrics_file} {problem}; loss.png goes without, training does not need it")
    if problem := problem_of_best(run):
        trainer.tell("on_message", f"{run.best_file} {problem}; it is written anew")
    own = next((line for line in run.metrics() if line["step"] == trainer.step and "val_loss" in line), None)
    trainer.validated = own is not None
    last, every = (state["settings"].get(name) for name in ("max_steps", "eval_every"))  # as a file says it
    trainer.validation_was_due = trainer.step == last or (
        isinstance(every, int) and every > 0 and trainer.step % every == 0
    )
    trainer.best = best_of(trainer, state, own)
    if trainer.best:
        run.write_best(**trainer.best)
    else:
        run.best_file.unlink(missing_ok=True)
    if "watch" in state:
        trainer.watch.restore(state["watch"])
    trainer.saver.went_on_from(trainer.step)
    trainer.resumed = True


def best_of(trainer: "Trainer", state: Mapping[str, Any], own: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The best validation up to the step that the run goes on from. That step's `own` is not in its `state`, which was saved
    before it was made."""
    run, step = trainer.run, trainer.step
    # The first versions did not have it in their state.
    best: dict[str, Any] | None = state["best"] if "best" in state else run.best_of_metrics()
    written = run.best()
    if own and written and written["step"] == step and problem_of_best(run) is None:
        return written
    if own and (best is None or own["val_loss"] < best["val_loss"]):
        return {"step": step, "val_loss": own["val_loss"]}
    if best is None or best["step"] in run.steps():
        return best
    left = written if written and written["step"] <= step and written["step"] in run.steps() else run.best_of_metrics()
    instead = f"step {left['step']} is the best of those that are left" if left else "none is best now"
    trainer.tell("on_message", f"the best checkpoint, of step {best['step']}, can no longer be used; {instead}")
    return left
