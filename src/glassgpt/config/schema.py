"""What a run is, said once: every setting with its type, default, one-sentence meaning and range.

The sentence is the `--help` text of the flag with the same name. Names are unique over all sections, so that a flag needs
no section. `0` (for a number) and "auto" (for a word) mean: decide it for me; what was decided is written to the run's
`config.toml`.
"""

import os
import sys
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin

from glassgpt.config.names import suggestion
from glassgpt.config.setting import check_ranges, require_unicode, setting
from glassgpt.config.unused import IDLE, REFUSED, without_part
from glassgpt.errors import ConfigError

DEFAULT_BPE_VOCABULARY = 4096
# Under `minutes` the speed is measured during the warmup, so that the schedule proper can begin with its length known.
SHORTEST_TIMED_WARMUP = 10
# They follow from the length of a run, unless they are asked for.
INTERVALS = ("eval_every", "save_every", "sample_every")


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a model. The defaults are GPT-2's (124M); only the vocabulary is left to the tokenizer."""

    architecture: Literal["gpt2", "modern", "ngram", "textbook"] = setting(
        "gpt2",
        "the file in model/ that is built: gpt2, modern (the Qwen3 block), ngram (modern, with embeddings of groups of tokens "
        "too), or textbook (GPT-2 spelled out)",
    )
    vocab_size: int = setting(0, "tokens that the model knows; 0: as many as the tokenizer has", at_least=0)
    context_length: int = setting(1024, "tokens that the model sees at once", at_least=1)
    n_layer: int = setting(12, "transformer blocks", at_least=1)
    n_head: int = setting(12, "attention heads in a block", at_least=1)
    n_kv_head: int = setting(0, "key and value heads, shared by groups of query heads; 0: n_head (modern)", at_least=0)
    n_embd: int = setting(768, "width of the residual stream", at_least=1)
    head_dim: int = setting(0, "width of one head; 0: n_embd / n_head (modern)", at_least=0)
    n_inner: int = setting(
        0, "width inside the MLP; 0: 4 n_embd (gpt2), 8/3 n_embd rounded up to 32 (modern)", at_least=0
    )
    dropout: float = setting(
        0.0,
        "share of activations dropped in training, after embeddings, attention and MLP (gpt2, textbook: in attention too)",
        at_least=0,
        below=1,
    )
    bias: bool = setting(True, "biases in linear layers and norms (GPT-2 has them; modern has none)")
    qkv_bias: bool = setting(True, "biases on query, key and value as well, where there are biases at all")
    tie_embeddings: bool = setting(True, "the output layer is the token embedding (GPT-2 ties; the book does not)")
    activation: Literal["gelu_tanh", "gelu", "relu"] = setting(
        "gelu_tanh", "gelu_tanh is GPT-2's, gelu the exact one (erf), relu for textbook only"
    )
    norm_eps: float = setting(1e-5, "added to the variance before its root is taken", above=0)
    rope_theta: float = setting(10_000.0, "base of the rotary wavelengths (modern)", above=0)
    n_gram: int = setting(4, "longest group of neighbouring tokens with an embedding of its own (ngram)", at_least=2)
    n_gram_rows: int = setting(
        16_381,
        "embeddings for the groups of each length; more groups than that share them, a prime number most evenly (ngram)",
        at_least=1,
    )
    norm_position: Literal["pre", "post"] = setting(
        "pre", "norm before (GPT-2) or after (2017) the sublayer (textbook only)"
    )
    residual: bool = setting(True, "add each sublayer's input to its output (textbook only)")

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.is_modern:
            self._check_modern()
        else:
            self._check_gpt2()
        textbook_only = [("norm_position", "post"), ("residual", False), ("activation", "relu")]
        for name, value in textbook_only:
            if self.architecture != "textbook" and getattr(self, name) == value:
                raise ConfigError(f"{name} {value!r} is only known to architecture textbook; add architecture textbook")

    def _check_modern(self) -> None:
        if self.n_head % self.kv_heads:
            raise ConfigError(f"n_head {self.n_head} does not divide into n_kv_head {self.kv_heads} equal groups")
        if not self.head_dim and self.n_embd % self.n_head:
            raise ConfigError(
                f"n_embd {self.n_embd} does not divide into n_head {self.n_head} equal heads; change one, or set head_dim"
            )
        if self.head_width % 2:
            raise ConfigError(f"a head {self.head_width} wide cannot be rotated in pairs; head_dim has to be even")
        if self.architecture == "ngram" and self.n_gram > self.context_length:
            raise ConfigError(f"n_gram {self.n_gram} is more than context_length {self.context_length}; lower it")
        if self.activation == "gelu":
            raise ConfigError(
                "activation 'gelu' is for gpt2 and textbook; the MLP of architecture modern is gated (SwiGLU)"
            )

    def _check_gpt2(self) -> None:
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd {self.n_embd} does not divide into n_head {self.n_head} equal heads; change one")
        if self.n_kv_head not in (0, self.n_head) or self.head_dim not in (0, self.n_embd // self.n_head):
            raise ConfigError(
                "n_kv_head and head_dim are settings of architecture modern; leave them at 0, or take architecture modern"
            )

    @property
    def is_modern(self) -> bool:
        """Whether its blocks are those of modern.py."""
        return self.architecture in ("modern", "ngram")

    @property
    def kv_heads(self) -> int:
        return self.n_kv_head or self.n_head

    @property
    def head_width(self) -> int:
        return self.head_dim or self.n_embd // self.n_head

    @property
    def mlp_width(self) -> int:
        if self.n_inner:
            return self.n_inner
        # SwiGLU has three matrices where GPT-2's MLP has two: 8/3 keeps the parameters equal (Shazeer 2020, 2002.05202).
        return -(-8 * self.n_embd // 3 // 32) * 32 if self.is_modern else 4 * self.n_embd


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The text and how it is cut into tokens."""

    data: tuple[str, ...] = setting(
        ("python",),
        "files, folders, globs, - for standard input, a prepared folder, or the names python "
        "(the standard library of this interpreter) and shakespeare",
    )
    tokenizer: str = setting("bpe", "char, byte, bpe (trained on the text), gpt2, or the path of a tokenizer.json")
    text_field: str = setting("text", "the field of jsonl and csv files that holds the text")
    task: Literal["auto", "text", "conversations", "labels"] = setting(
        "auto",
        "what is learned; text: every token; conversations: the answers in messages, or in prompt and completion; labels: the "
        "label of each text; auto: by the fields of the records",
    )

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("data is empty; name at least one file, folder or built-in corpus")
        require_unicode(*self.data, self.tokenizer, self.text_field)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One optimizer's way through the batches."""

    seed: int = setting(1337, "start of all randomness: weights, batch order, dropout", at_least=0, below=2**63)
    max_steps: int = setting(0, "optimizer updates; 0: as many as fit into minutes", at_least=0)
    minutes: float = setting(
        0.0,
        "train so many minutes from the start of the command, those before a resume included; the speed is measured, then "
        "max_steps is set; less where a preset's own model would know a short text by heart",
        at_least=0,
        at_most=10**7,
    )
    batch_size: int = setting(32, "sequences in one optimizer update, over all devices", at_least=1)
    micro_batch_size: int = setting(
        0, "sequences in one forward and backward; 0: what fits; must divide batch_size", at_least=0
    )
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw",
        "adamw, with decoupled weight decay on matrices only; muon: it moves the matrices in blocks, adamw the rest",
    )
    learning_rate: float = setting(1e-3, "the highest learning rate", above=0, below=1000)
    matrix_learning_rate: float = setting(0.02, "the same for the matrices that muon moves", above=0, below=1000)
    momentum: float = setting(0.95, "memory of muon's mean gradient", at_least=0, below=1)
    warmup_steps: int = setting(
        100,
        "updates over which the learning rate rises linearly; 0: none, or under minutes as many as take 4 % of the time",
        at_least=0,
    )
    schedule: Literal["cosine", "wsd", "linear", "constant"] = setting(
        "cosine",
        "the learning rate after warmup; cosine, linear: falls; wsd: stays level, then falls over the last 40 %; constant",
    )
    decay_to: float = setting(
        0.1, "where it falls to at the last step, as a share of the highest", at_least=0, at_most=1
    )
    weight_decay: float = setting(0.1, "pull of matrices towards zero, times the learning rate", at_least=0, below=1000)
    beta1: float = setting(0.9, "memory of AdamW's mean gradient", at_least=0, below=1)
    beta2: float = setting(0.99, "memory of AdamW's mean squared gradient", at_least=0, below=1)
    grad_clip: float = setting(1.0, "longest gradient, over all parameters; 0: not clipped", at_least=0)
    eval_every: int = setting(0, "steps between validations; 0: five in a run, fewer where it is slow", at_least=0)
    save_every: int = setting(
        0, "steps between checkpoints; 0: at every validation, and at least every five minutes", at_least=0
    )
    log_every: int = setting(10, "steps between lines of metrics.jsonl", at_least=1)
    sample_every: int = setting(0, "steps between samples of the model's writing; 0: about ten in a run", at_least=0)
    keep_checkpoints: int = setting(2, "newest checkpoints that are kept beside the best one", at_least=1)
    gradient_checkpointing: bool = setting(
        False,
        "keep only what goes into each block, and compute the rest again for its gradient: less memory, a third slower",
    )
    on_nonfinite: Literal["skip", "stop"] = setting(
        "skip",
        "a step whose loss or gradient is not finite never changes a weight; skip: stop after ten in a row; stop: at once",
    )
    on_spike: Literal["report", "skip", "stop"] = setting(
        "report", "a step whose loss is 6 standard deviations, and a tenth, above the mean of the last 128"
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ConfigError(
                f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}; change one"
            )
        if not self.max_steps and not self.minutes:
            raise ConfigError("neither max_steps nor minutes says how long to train; set one")
        if self.max_steps and self.minutes:
            raise ConfigError("max_steps and minutes both say how long to train; set one")
        if self.minutes and 0 < self.warmup_steps < SHORTEST_TIMED_WARMUP and self.schedule in ("cosine", "linear"):
            raise ConfigError(
                f"warmup_steps is {self.warmup_steps}; under minutes with schedule {self.schedule} at least "
                f"{SHORTEST_TIMED_WARMUP}, since the speed is measured meanwhile; or 0: chosen by the time"
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Going on from a model that has learned something before."""

    from_: str = setting(
        "",
        "go on from this model: a run, a checkpoint, a Hugging Face folder, a .pt file, or a published name such as gpt2",
    )
    lora: int = setting(
        0, "rank of adapters (LoRA) that are trained while the weights stay as they are; 0: the weights are", at_least=0
    )
    lora_alpha: float = setting(16.0, "what an adapter adds is scaled by lora_alpha / lora", above=0)
    lora_on: Literal["attention", "mlp", "all"] = setting("all", "the matrices in a block that get an adapter")

    def __post_init__(self) -> None:
        check_ranges(self)
        require_unicode(self.from_)
        if self.lora and not self.from_:
            raise ConfigError("lora adapts a model that is there; the setting from says which one")


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """What the run may use of this machine."""

    device: str = setting("auto", "cpu, cuda, cuda:1, mps; auto: cuda, else mps, else cpu")
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "arithmetic of matrix products; auto: bfloat16 where a short trial is faster (weights stay float32)"
    )
    compile: Literal["auto", "on", "off"] = setting(
        "auto", "torch.compile; auto: in long runs, where a short trial is faster"
    )
    threads: int = setting(0, "CPU threads; 0: torch's choice, one a core", at_least=0)
    replicas: int = setting(
        0,
        "copies of the model that share its weights and take a micro batch and a thread each; 0: up to 4, where a short "
        "trial is faster",
        at_least=0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that makes a run what it is. `preset`, `asked`, `changed` and `minutes_given` only record where the values
    came from."""

    preset: str = "mini"
    asked: tuple[str, ...] = ()  # the settings that a person chose, in a file or by a flag
    changed: tuple[tuple[str, Any], ...] = ()  # those of them that a flag of resume changed, and to what
    minutes_given: float = 0.0  # what max_steps followed from, where it did; minutes itself is 0 from then on
    model: GPTConfig
    data: DataConfig
    train: TrainConfig
    finetune: FinetuneConfig
    machine: MachineConfig

    def with_values(self, **values: Any) -> "RunConfig":
        """A copy with settings changed by their flat names: `config.with_values(max_steps=200, n_layer=4)`."""
        checked = {name: check_value(name, value, "value") for name, value in values.items()}
        asked = tuple(name for name in FIELDS if name in values or name in self.asked)
        config = replace(self.resolved(**checked), asked=asked)
        config.require_useful()
        return config

    def require_useful(self) -> None:
        """Raises ConfigError where a person asked for what is without use here: it would otherwise pass in silence."""
        values = self.flat()
        for choice, by_value in REFUSED.items():
            for name in by_value.get(values[choice], ()):
                if name in self.asked and values[name]:
                    raise ConfigError(f"{choice} {values[choice]} has no use for {name}; leave {name} out")

    def in_use(self) -> dict[str, Any]:
        """The settings that play a part beside the others, with what a 0 that stands for another setting comes to."""
        values, model = self.flat(), self.model
        derived = {"n_kv_head": model.kv_heads, "head_dim": model.head_width, "n_inner": model.mlp_width}
        unused = without_part(values, REFUSED, IDLE)
        return {name: value for name, value in (values | derived).items() if name not in unused}

    def resolved(self, **values: Any) -> "RunConfig":
        """A copy with settings that GlassGPT found out for itself."""
        changed = {
            section: replace(getattr(self, section), **{k: v for k, v in values.items() if SECTION_OF[k] == section})
            for section in SECTIONS
            if any(SECTION_OF[k] == section for k in values)
        }
        return replace(self, **changed)

    def flat(self) -> dict[str, Any]:
        return {name: getattr(getattr(self, section), name) for name, section in SECTION_OF.items()}


SECTIONS: dict[str, Any] = {
    "model": GPTConfig,
    "data": DataConfig,
    "train": TrainConfig,
    "finetune": FinetuneConfig,
    "machine": MachineConfig,
}
SECTION_OF = {f.name: section for section, kind in SECTIONS.items() for f in fields(kind)}
FIELDS = {f.name: f for kind in SECTIONS.values() for f in fields(kind)}


def shown_name(name: str) -> str:
    """As it stands in files and flags: `from` is a word of Python's, so that the field is called from_."""
    return name.rstrip("_")


def field_name(name: str) -> str:
    """The field that a name in a file or a flag means."""
    return name + "_" if name + "_" in FIELDS else name


def check_value(name: str, value: Any, where: str) -> Any:
    """`value` in the type of the setting `name`. `where` says in an error what it was read from."""
    if name not in FIELDS:
        raise ConfigError(f"{where} {name!r} is not a setting{suggestion(name, FIELDS)}")
    wanted = FIELDS[name].type
    at = f"{where} " if ":" in where else ""  # a file
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            words = {word: word for word in get_args(wanted)}
            hint = suggestion(str(value), words)
            raise ConfigError(f"{at}{name} {value!r} is not one of {', '.join(words)}{hint}")
        return value
    if get_origin(wanted) is tuple:
        values = [value] if isinstance(value, (str, os.PathLike)) else value
        if isinstance(values, (list, tuple)) and all(isinstance(v, (str, os.PathLike)) for v in values):
            return tuple(map(os.fspath, values))
    elif wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # neither nan nor infinite
            return float(value)
    elif isinstance(wanted, type) and isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    words_for = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text in quotes"}
    kind = words_for[wanted] if isinstance(wanted, type) and wanted in words_for else "a list of texts"
    raise ConfigError(f"{at}{name} is {value!r}; it has to be {kind}")
