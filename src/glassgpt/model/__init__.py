"""ids -> logits. Read gpt2.py first."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from glassgpt.config import GPTConfig
from glassgpt.errors import ConfigError
from glassgpt.model.cache import Cache
from glassgpt.model.gpt2 import GPT2
from glassgpt.model.language_model import LanguageModel
from glassgpt.model.modern import Modern
from glassgpt.model.ngram import Ngram
from glassgpt.model.textbook import Textbook

# An architecture is one file and one line here.
ARCHITECTURES: dict[str, Callable[[GPTConfig], LanguageModel]] = {
    "gpt2": GPT2,
    "modern": Modern,
    "ngram": Ngram,
    "textbook": Textbook,
}


class _WithoutInit(TorchFunctionMode):
    """torch's layers draw weights when they are made, which `init_weights` or a checkpoint replaces: time for nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        return func(*args, **kwargs)


def build_model(config: GPTConfig, seed: int | None = None, device: torch.device | str = "cpu") -> LanguageModel:
    """The model that `config` describes, float32. With a seed its weights are drawn, always on the CPU so that the same
    seed is the same model on every device; without one they are whatever torch leaves there, to be loaded over."""
    if not config.vocab_size:
        raise ConfigError("vocab_size is 0; a model needs the size of its tokenizer's vocabulary")
    with _WithoutInit():
        model = ARCHITECTURES[config.architecture](config)
    if seed is not None:
        model.init_weights(torch.Generator().manual_seed(seed))
    return model.to(device)


__all__ = ["ARCHITECTURES", "Cache", "LanguageModel", "build_model"]
