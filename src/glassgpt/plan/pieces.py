"""Pieces of a training step that stand for the whole of it: a few blocks, the optimizer on them, a slice of the loss. Each is
a function to be timed."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.data import Batch
from glassgpt.model import LanguageModel
from glassgpt.model.lora import attach_lora, lora_of
from glassgpt.plan.timing import seconds_of
from glassgpt.train.loss import chunked_loss
from glassgpt.train.optimizer import Optimizer
from glassgpt.train.step import autocast

DRAWN = 4099  # a prime: no two rows begin alike
SMALL_VOCABULARY = 64  # words


def prepared(model: LanguageModel, config: RunConfig) -> LanguageModel:
    """As training has it, but with the same few thousand random numbers in every weight: that is sooner done than drawing all.
    (One number for all is even faster, and makes gradients so small that a processor takes twice as long for them.)"""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(noise(p.numel(), p.device).view_as(p))
    if (lora := lora_of(config.finetune)) is not None:
        attach_lora(model, lora, config.train.seed)
    return model.train()


def noise(count: int, device: torch.device) -> Tensor:
    """(count,) numbers as a model begins with."""
    drawn = 0.02 * torch.randn(DRAWN, generator=torch.Generator().manual_seed(1)).to(device)
    return drawn.repeat(-(-count // DRAWN))[:count]


def thinned(c: GPTConfig, layers: int) -> GPTConfig:
    """So many blocks, and next to no vocabulary."""
    return replace(
        c,
        n_layer=layers,
        vocab_size=min(c.vocab_size, SMALL_VOCABULARY),
        n_gram_rows=min(c.n_gram_rows, SMALL_VOCABULARY),
    )


def pass_through(
    model: LanguageModel, rows: int, length: int, precision: str, twice: bool = False
) -> Callable[[], object]:
    """Forward and backward of everything below the output, over (rows, length) tokens. `twice`: as with gradient
    checkpointing, whose own code loads the compiler first, which takes 0.8 seconds."""
    device = next(model.parameters()).device
    tokens = torch.arange(rows * length, device=device).view(rows, length) % model.config.vocab_size
    upstream = noise(rows * length * model.config.n_embd, device).view(rows, length, -1)

    def forward_and_backward() -> float:
        if twice:  # with a conversion of the weights of its own, as there
            with torch.no_grad(), autocast(device, precision):
                model.hidden(tokens)
        with autocast(device, precision):
            hidden = model.hidden(tokens)
        # Of a number: a backward that is given its gradient loads sympy first, which takes 0.3 seconds.
        torch.dot(hidden.flatten(), upstream.flatten()).backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        return hidden.flatten()[0].item()  # a GPU has done nothing before it is waited for

    return forward_and_backward


class Output(nn.Module):
    """Of a model only what the loss asks for: hidden states, and the output matrix."""

    def __init__(self, vocab_size: int, n_embd: int, device: torch.device) -> None:
        super().__init__()
        self.unembedding = nn.Parameter(noise(vocab_size * n_embd, device).view(vocab_size, -1))

    def hidden(self, states: Tensor) -> Tensor:
        """In the place of tokens it is given what they would become."""
        return states

    def work(self, positions: int, precision: str) -> Callable[[], object]:
        device = self.unembedding.device
        targets = torch.zeros(1, positions, dtype=torch.long, device=device)
        states = noise(positions * self.unembedding.shape[1], device).view(1, positions, -1).requires_grad_()

        def forward_and_backward() -> float:
            with autocast(device, precision):
                loss = chunked_loss(self, Batch(states, targets))
            loss.backward()  # type: ignore[no-untyped-call]
            self.unembedding.grad = states.grad = None
            return loss.item()

        return forward_and_backward


def seconds_of_step(model: nn.Module, optimizer: Optimizer) -> float:
    """Of a step of the optimizer, the gradients' length and clipping included."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        return 0.0
    for p in weights:
        p.grad = noise(p.numel(), p.device).view_as(p)

    def step() -> float:
        norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
        nn.utils.clip_grads_with_norm_(weights, 1.0, norm)
        optimizer.step()
        return norm.item()

    seconds = seconds_of(step)
    model.zero_grad()
    return seconds
