"""Small shapes whose sizes all differ from each other, so that a transposed axis cannot pass."""

import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.model import ARCHITECTURES, LanguageModel, build_model

# V 23, context 11, C 18 (12 for modern, whose heads are wider than C / H), H 3 (6), D 6 (4), F 29; B 5, T 7.
GPT2_SHAPE = {"vocab_size": 23, "context_length": 11, "n_layer": 2, "n_head": 3, "n_embd": 18, "n_inner": 29}
SHAPES = {
    "gpt2": GPT2_SHAPE,
    "modern": GPT2_SHAPE | {"n_head": 6, "n_kv_head": 2, "n_embd": 12, "head_dim": 4},
    "ngram": GPT2_SHAPE | {"n_head": 6, "n_kv_head": 2, "n_embd": 12, "head_dim": 4, "n_gram": 3, "n_gram_rows": 50},
    "textbook": GPT2_SHAPE,
}


def small(architecture: str = "gpt2", seed: int = 4, **changes: object) -> LanguageModel:
    """A float64 model in evaluation mode whose weights are far from their start: there biases are 0, norms 1 and
    everything else so small that many mistakes would not be seen."""
    config = GPTConfig(architecture=architecture, **(SHAPES[architecture] | changes))
    model = build_model(config, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def some_tokens(*shape: int, vocab_size: int = 23) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(9))


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    """Each of them in turn; a new one is picked up once it has a shape above."""
    return request.param
