"""GlassGPT: the GPT you can see through.

import glassgpt
engine = glassgpt.load_run("runs/python-1")
print(engine.generate("def ", max_new_tokens=100))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassgpt.config import build_config
    from glassgpt.generate import load_chat, load_classifier, load_run
    from glassgpt.train import train_run

__version__ = "0.1.0"
__all__ = ["build_config", "load_chat", "load_classifier", "load_run", "train_run"]

_HOMES = {
    "build_config": "glassgpt.config",
    **dict.fromkeys(("load_chat", "load_classifier", "load_run"), "glassgpt.generate"),
    "train_run": "glassgpt.train",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    # Found when asked for: `glassgpt --help` must not wait for torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
