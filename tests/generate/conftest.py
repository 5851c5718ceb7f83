from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.model import ARCHITECTURES, LanguageModel, build_model
from glassgpt.tokenizer import Tokenizer, build_tokenizer

TEXT = "the cat sat on the mat; né €5 😀\n"


def small(
    architecture: str = "gpt2", vocab_size: int = 23, context_length: int = 11, **changes: object
) -> LanguageModel:
    """Weights far from their start, so that the likeliest token changes from one position to the next."""
    heads = {"n_kv_head": 2} if architecture == "modern" else {}
    config = GPTConfig(
        architecture=architecture, vocab_size=vocab_size, context_length=context_length, n_layer=2, n_head=6, n_embd=36,
        n_inner=29, **(heads | changes),
    )  # fmt: skip
    model = build_model(config, seed=4).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


class Script(LanguageModel):
    """Gives the scripted token at each position, for each row of the batch, with the probability 1."""

    def __init__(self, vocab_size: int, rows: Sequence[Sequence[int]], prompt_length: int) -> None:
        super().__init__(GPTConfig(vocab_size=vocab_size, context_length=512, n_layer=1, n_head=1, n_embd=4))
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows, self.prompt_length = rows, prompt_length

    def hidden(self, tokens: Tensor, cache: object = None) -> Tensor:
        """The hidden state is the number of positions read."""
        start = cache.length if cache is not None else 0
        if cache is not None:
            cache.advance(tokens.shape[1])
        return torch.arange(start + 1, start + tokens.shape[1] + 1).expand(len(tokens), -1)[..., None]

    def unembed(self, hidden: Tensor) -> Tensor:
        """(B, 1) -> (B, V)."""
        logits = torch.full((len(hidden), self.config.vocab_size), float("-inf"))
        for row, (ids, read) in enumerate(zip(self.rows, hidden[:, 0].tolist(), strict=True)):
            at = read - self.prompt_length
            logits[row, ids[at] if at < len(ids) else 0] = 0.0
        return logits


@pytest.fixture(scope="session")
def byte() -> Tokenizer:
    return build_tokenizer("byte", lambda: iter(()))


@pytest.fixture(scope="session")
def char() -> Tokenizer:
    """Of a single text: no end-of-text token."""
    return build_tokenizer("char", lambda: iter([TEXT]), single_text=True)


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return build_tokenizer("bpe", lambda: iter([TEXT] * 20), 290)
