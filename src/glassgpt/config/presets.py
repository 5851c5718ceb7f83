"""Named starting points. A preset sets; whatever it leaves out has its default."""

from typing import Any, NamedTuple

DEFAULT_PRESET = "mini"
# What a preset has for its own optimizer: Muon's are too high for AdamW, whose one rate is every weight's.
OF_THE_OPTIMIZER = ("learning_rate", "matrix_learning_rate", "momentum")

# GPT-2 as published (Radford et al. 2019, table 2), with the recipe of its best-known reproduction (nanoGPT's
# config/train_gpt2.py: half a million tokens an update, 600,000 updates).
_GPT2 = {
    "architecture": "gpt2", "tokenizer": "gpt2", "vocab_size": 50257, "context_length": 1024,
    "batch_size": 480, "learning_rate": 6e-4, "beta2": 0.95, "warmup_steps": 2000,
    "max_steps": 600_000, "eval_every": 1000, "save_every": 1000,
}  # fmt: skip

# The small recipe of the same repository (config/train_shakespeare_char.py).
_SMALL = {
    "architecture": "gpt2", "tokenizer": "char", "context_length": 256, "bias": False, "batch_size": 64,
    "learning_rate": 1e-3, "beta2": 0.99, "warmup_steps": 100, "max_steps": 5000, "eval_every": 250,
}  # fmt: skip

# One text on two cores, character by character (docs/decisions.md).
_CHAR = {
    "architecture": "ngram", "tokenizer": "char", "tie_embeddings": False, "optimizer": "muon", "momentum": 0.85,
    "beta2": 0.98, "schedule": "wsd", "decay_to": 0.0,
}  # fmt: skip
# What a quarter of an hour is worth. So large a model would know the text by heart soon, without dropout.
_CHAR_BEST = {
    "n_gram": 2, "context_length": 256, "n_layer": 4, "n_head": 4, "n_embd": 256, "dropout": 0.2, "batch_size": 16,
    "learning_rate": 3e-3, "matrix_learning_rate": 0.015, "weight_decay": 0.1, "warmup_steps": 40,
}  # fmt: skip

# For whom each is, in the words of `glassgpt train --help`.
PURPOSES = {
    "mini": "1.3 million parameters in three minutes on two cores, the default",
    "char-cpu": "one text, character by character, in about five seconds, or whatever --minutes gives",
    "char-best": "the lowest loss on one text in a quarter of an hour on two cores",
    "baby, gpt-384, tutorial": "the best-known small recipes, for a GPU or for patience",
    "gpt2, gpt2-medium, gpt2-large, gpt2-xl": "GPT-2 as published, 124 million to 1.6 billion",
    "gpt3-175b": "to calculate with",
}


def describe_presets() -> str:
    return "; ".join(f"{names} ({purpose})" for names, purpose in PURPOSES.items())


PRESETS: dict[str, dict[str, Any]] = {
    # Learning rates of the models of nearest size in Brown et al. 2020, table 2.1.
    "gpt2": _GPT2 | {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": _GPT2 | {"n_layer": 24, "n_head": 16, "n_embd": 1024, "learning_rate": 3e-4},
    "gpt2-large": _GPT2 | {"n_layer": 36, "n_head": 20, "n_embd": 1280, "learning_rate": 2.5e-4},
    "gpt2-xl": _GPT2 | {"n_layer": 48, "n_head": 25, "n_embd": 1600, "learning_rate": 2e-4},
    # Brown et al. 2020, table 2.1; its batch of 3.2M tokens. For planning: no machine that runs this builds it.
    "gpt3-175b": _GPT2 | {
        "n_layer": 96, "n_head": 96, "n_embd": 12288, "context_length": 2048, "learning_rate": 6e-5, "batch_size": 1560,
        "max_steps": 93_900,  # 300 billion tokens
    },
    "baby": _SMALL | {"n_layer": 6, "n_head": 6, "n_embd": 384, "dropout": 0.2},
    "gpt-384": _SMALL | {"n_layer": 12, "n_head": 12, "n_embd": 384, "dropout": 0.1},
    # The size and the learning rate of the classic tutorial (karpathy/ng-video-lecture, gpt.py), in GPT-2's blocks. AdamW's
    # betas and weight decay are torch's own, but only matrices decay, as in every preset; constant rate, nothing clipped.
    "tutorial": _SMALL | {
        "n_layer": 6, "n_head": 6, "n_embd": 384, "dropout": 0.2, "learning_rate": 3e-4, "batch_size": 32,
        "schedule": "constant", "warmup_steps": 0, "beta2": 0.999, "weight_decay": 0.01, "grad_clip": 0.0,
    },
    # The default run: chosen by measured bits a byte in four minutes on two cores (docs/decisions.md).
    "mini": {
        "architecture": "modern", "tokenizer": "bpe", "vocab_size": 4096, "context_length": 256,
        "n_layer": 4, "n_head": 2, "n_embd": 128, "batch_size": 8, "optimizer": "muon", "learning_rate": 1e-2,
        "matrix_learning_rate": 0.03, "momentum": 0.9, "beta2": 0.98, "warmup_steps": 20, "schedule": "wsd", "decay_to": 0.0,
        "minutes": 3.1,
    },
    # Five seconds.
    "char-cpu": _CHAR | {
        "n_gram": 4, "context_length": 64, "n_layer": 1, "n_head": 2, "n_embd": 64, "batch_size": 16,
        "learning_rate": 1e-2, "weight_decay": 0.0, "warmup_steps": 5, "max_steps": 80,
        "eval_every": 250, "save_every": 250, "sample_every": 250,
    },
    # A quarter of an hour, start and all.
    "char-best": _CHAR | _CHAR_BEST | {"minutes": 14.8},
}  # fmt: skip


class Size(NamedTuple):
    """What a preset becomes where it has so many minutes: the best of those that were tried, all of them on one machine
    (docs/decisions.md)."""

    minutes: float  # from so many on
    tokens_per_second: int  # of whole runs, validations and all
    most_passes: float  # over the text: what is trained longer learns it by heart, and gets worse
    settings: dict[str, Any]  # others stay as they are in the preset


SIZES: dict[str, tuple[Size, ...]] = {
    "char-cpu": (
        Size(0.0, 45_000, 2, {}),
        Size(0.25, 30_000, 2, {"n_layer": 2, "context_length": 128, "batch_size": 8}),
        Size(0.6, 35_000, 3, {"n_layer": 2, "context_length": 128, "batch_size": 8, "n_gram": 3}),
        Size(2.0, 22_000, 4, {"n_layer": 2, "n_head": 4, "n_embd": 128, "context_length": 128, "n_gram": 3}),
        Size(8.0, 8_100, 8, _CHAR_BEST),
    ),
    "char-best": (Size(0.0, 8_100, 8, {}),),
    "mini": (Size(0.0, 17_000, 4, {}),),
}
# Seconds that a step of char-cpu, forward and backward, takes there on one thread of two.
SIZES_STEP, SIZES_THREADS = 0.0115, 2

# Going on from weights that are good already: what `from` and `lora` take where no preset is named. A lower rate, a short
# warmup, as long as one waits for a coffee.
_FINETUNE = {
    "batch_size": 8, "beta2": 0.99, "warmup_steps": 20, "schedule": "wsd", "decay_to": 0.0, "minutes": 10.0, "dropout": 0.0,
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "finetune": _FINETUNE | {"learning_rate": 1e-4, "matrix_learning_rate": 2e-3},
    # Adapters begin at zero, and are few: ten times the rate of full fine-tuning (Biderman et al. 2024, 2405.09673).
    "lora": _FINETUNE | {"learning_rate": 1e-3},
}
