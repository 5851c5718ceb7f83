"""From logits to the next token: pure functions, each one of the knobs that people know."""

import torch
from torch import Tensor

from glassgpt.errors import ConfigError, GlassError


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """(B, V) -> (B, V): all but the k largest (and those equal to the k-th) at -inf (Fan et al. 2018, 1805.04833)."""
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """(B, V) -> (B, V): the smallest set of most probable tokens that together reach p (Holtzman et al. 2020, 1904.09751)."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # probability of all that are likelier
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, float("-inf"))


def sample(
    logits: Tensor,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Tensor:
    """logits (B, V) -> tokens (B,). Temperature 0 takes the likeliest; top_k 0 and top_p 1 keep everything.

    Temperature acts first, so that top_p is a share of what is really drawn from. The draw is made on the CPU in float64:
    the same generator gives the same text on every device, and no temperature above 0 is too small to divide by.
    """
    if logits.isnan().any():
        raise GlassError("the model's scores are not numbers, so that it can write nothing; its weights are broken")
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.cpu().double()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    if top_k:
        logits = keep_top_k(logits, top_k)
    if top_p < 1:
        logits = keep_top_p(logits, top_p)
    return torch.multinomial(logits.softmax(dim=-1), num_samples=1, generator=generator)[:, 0]


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Raises ConfigError for a value outside its range."""
    if not 0 <= temperature < float("inf"):
        raise ConfigError(
            f"temperature is {temperature}; it has to be finite and at least 0 (0: always the likeliest token)"
        )
    if top_k < 0:
        raise ConfigError(f"top_k is {top_k}; it has to be at least 0 (0: all tokens)")
    if not 0 < top_p <= 1:
        raise ConfigError(f"top_p is {top_p}; it has to be above 0 and at most 1 (1: all tokens)")
