"""Next-token cross-entropy: how surprised the model is by what comes next, in nats. Plain, and in chunks; equal."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from glassgpt.data import IGNORE_INDEX, Batch

# A chunk's logits stay in the processor's cache, and a chunk is never too thin for a fast matrix product. Of a large
# vocabulary that takes so many words at a time: a product with all of GPT-2's 50,257 runs at half the speed.
CHUNK_LOGITS, CHUNK_ROWS, CHUNK_WORDS = 1 << 20, 512, 8192


def plain_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Nats over all targets of the batch that are not IGNORE_INDEX, summed: a scalar, float32 or better."""
    logits = at_least_float32(model(batch.tokens))  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


def chunked_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The same without ever holding (B, T, V): logits come and go a few hundred positions at a time, and their gradient
    with them (as in Liger Kernel's fused linear cross-entropy, 2410.10989)."""
    hidden: Tensor = model.hidden(batch.tokens).flatten(0, 1)  # type: ignore[operator] # (B T, C)
    weight: Tensor = model.unembedding  # type: ignore[assignment]
    if not torch.is_grad_enabled():
        # A Function learns which of its inputs could have a gradient, not that nobody asks for one, as in validation.
        weight = weight.detach()
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, batch.targets.flatten())  # type: ignore[no-untyped-call]
    return loss


def chunk_rows(vocab_size: int) -> int:
    """Positions whose logits are there at a time."""
    return max(CHUNK_ROWS, CHUNK_LOGITS // vocab_size)


def count_targets(batch: Batch) -> int:
    return int((batch.targets != IGNORE_INDEX).sum())


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """hidden (N, C), weight (V, C), targets (N,) -> summed loss. The gradients are computed on the way, while each
    chunk's probabilities are at hand: d loss / d logits = probabilities - one-hot targets."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        w = weight.to(dtype)
        hidden_wanted, weight_wanted, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_hidden = torch.empty_like(hidden) if hidden_wanted else None
        grad_weight = torch.zeros_like(weight) if weight_wanted else None
        words = [slice(first, first + CHUNK_WORDS) for first in range(0, len(weight), CHUNK_WORDS)]
        precise = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=precise, device=hidden.device)
        rows = chunk_rows(len(weight))
        buffer = hidden.new_empty(min(rows, len(hidden)), len(weight), dtype=precise)  # one for all: new memory is slow
        for start in range(0, len(hidden), rows):
            h = hidden[start : start + rows].to(dtype)
            t = targets[start : start + rows]
            scored = (t != IGNORE_INDEX)[:, None]
            at_target = t.clamp(min=0)[:, None]
            logits = buffer[: len(h)]  # (rows, V)
            for some in words:
                logits[:, some] = h @ w[some].T
            log_probabilities = torch.log_softmax(logits, dim=-1, out=logits)  # from here on in the logits' own memory
            total -= (log_probabilities.gather(1, at_target) * scored).sum()
            if hidden_wanted or weight_wanted:
                probabilities = log_probabilities.exp_()
                probabilities.scatter_add_(1, at_target, torch.full_like(at_target, -1, dtype=precise))
                grad = probabilities.to(dtype)
                if grad_hidden is not None:
                    grad_hidden[start : start + rows] = (grad @ w) * scored
                if grad_weight is not None:
                    h = h * scored
                    for some in words:
                        grad_weight[some] += grad[:, some].T @ h
        ctx.save_for_backward(grad_hidden, grad_weight)  # type: ignore[arg-type] # None is allowed
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors  # type: ignore[attr-defined]
        return (
            None if grad_hidden is None else grad_hidden * upstream,
            None if grad_weight is None else grad_weight * upstream,
            None,
        )
