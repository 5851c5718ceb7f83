"""Text in, text out: a model with its tokenizer."""

import codecs
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from glassgpt.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, load_model
from glassgpt.config.setting import LARGEST
from glassgpt.disk import as_argument
from glassgpt.errors import ConfigError, MachineError, TokenizerError
from glassgpt.formats.huggingface import published_ends
from glassgpt.generate.decoder import decode
from glassgpt.generate.sampling import check_sampling, sample
from glassgpt.machine import decide_device, free_memory
from glassgpt.model import LanguageModel
from glassgpt.model.size import generation_bytes
from glassgpt.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    max_new_tokens: int = 500
    temperature: float = 0.8
    top_k: int = 200
    top_p: float = 1.0
    seed: int = 1337

    def __post_init__(self) -> None:
        for name, kind, words in (
            ("max_new_tokens", int, "a whole number"), ("temperature", (int, float), "a number"),
            ("top_k", int, "a whole number"), ("top_p", (int, float), "a number"), ("seed", int, "a whole number"),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r}; it has to be {words}")
        if not 0 <= self.max_new_tokens <= LARGEST:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; it has to be at least 0 and at most {LARGEST}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; it has to be at least 0 and below 2**63")
        check_sampling(self.temperature, self.top_k, self.top_p)


class Engine:
    """`generate` and `stream` write, `logits` shows what the model thinks. The weights are never changed."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, ends: Collection[int] = ()) -> None:
        """A text ends with the tokenizer's end-of-text, or with one of `ends`."""
        self.model, self.tokenizer = model.eval(), tokenizer  # dropout is for training
        self.ends = frozenset(ends) | ({tokenizer.end_of_text} if tokenizer.end_of_text is not None else set())
        self.device = next(model.parameters()).device

    def generate(self, prompt: str = "", **settings: float) -> str:
        """The completion of `prompt`. Settings are those of SamplingSettings: max_new_tokens, temperature, top_k, ..."""
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings: float) -> Iterator[str]:
        """The completion as it is written. A piece appears once its last character is whole."""
        for pieces in self.stream_many(prompt, num_samples=1, **settings):
            yield pieces[0]

    def generate_many(self, prompt: str = "", num_samples: int = 1, **settings: float) -> list[str]:
        """Several completions of one prompt, written side by side."""
        steps = [*self.stream_many(prompt, num_samples, **settings)]
        return ["".join(pieces) for pieces in zip(*steps, strict=True)]

    def stream_many(self, prompt: str = "", num_samples: int = 1, **settings: float) -> Iterator[list[str]]:
        """After each token the new piece of every sample. A sample ends with one of `ends`, which is not shown."""
        return self.write(self.encode_prompt(prompt), num_samples, **settings)

    def write(self, tokens: Tensor, num_samples: int = 1, **settings: float) -> Iterator[list[str]]:
        """As `stream_many`, from tokens (1, T) on."""
        steps = self.write_ids(tokens, num_samples, **settings)
        writers = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(num_samples)]
        writing = num_samples
        for row in steps:
            pieces = [""] * num_samples
            for index, id in enumerate(row):
                if id in self.ends:
                    pieces[index] = writers[index].decode(b"", final=True)
                elif id is not None and id < self.tokenizer.vocab_size:  # ids beyond only pad the embedding
                    pieces[index] = writers[index].decode(self.tokenizer.token_bytes(id))
            yield pieces
            writing -= sum(id in self.ends for id in row)
        if writing:
            yield [writer.decode(b"", final=True) for writer in writers]

    def write_ids(self, tokens: Tensor, num_samples: int = 1, **settings: float) -> Iterator[list[int | None]]:
        """From tokens (1, T) on the next token of every sample; of one that has ended None, after the end itself."""
        if not 1 <= num_samples <= LARGEST:
            raise ConfigError(f"num_samples is {num_samples}; it has to be at least 1 and at most {LARGEST}")
        chosen = SamplingSettings(**settings)  # type: ignore[arg-type]
        needed, free = generation_bytes(self.model.config, num_samples), free_memory(self.device)
        if needed > free and num_samples > 1:  # a single text is always tried: there is nothing to lower
            raise MachineError(
                f"{num_samples} samples side by side need about {needed / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free; "
                "lower num_samples"
            )
        generator = torch.Generator().manual_seed(chosen.seed)
        steps = decode(
            self.model,
            tokens.expand(num_samples, -1),
            lambda logits: sample(logits, generator, chosen.temperature, chosen.top_k, chosen.top_p),
        )
        return self._until_all_end(islice(steps, chosen.max_new_tokens), num_samples)

    def _until_all_end(self, steps: Iterator[Tensor], num_samples: int) -> Iterator[list[int | None]]:
        ended = [False] * num_samples
        for step in steps:
            ids = step.tolist()
            yield [None if over else id for id, over in zip(ids, ended, strict=True)]
            ended = [over or id in self.ends for id, over in zip(ids, ended, strict=True)]
            if all(ended):
                return

    def logits(self, text: str) -> Tensor:
        """(T, V), float32: at each of the text's tokens, the scores of the token after it."""
        tokens = self.encode_prompt(text)
        with torch.inference_mode():
            return self.model(tokens)[0].float()  # type: ignore[no-any-return]

    def encode_prompt(self, prompt: str) -> Tensor:
        """(1, T). Without a prompt the model begins where a text begins: after end-of-text, or after a line break where
        the vocabulary has no such token."""
        if not isinstance(prompt, str):
            raise ConfigError(f"the prompt is {prompt!r:.40}; it has to be text")
        ids = self.tokenizer.encode(prompt)
        if not ids:
            ids = [self.tokenizer.end_of_text] if self.tokenizer.end_of_text is not None else self._line_break()
        return torch.tensor([ids], device=self.device)

    def _line_break(self) -> list[int]:
        try:
            return self.tokenizer.encode("\n")
        except TokenizerError:
            return [0]


def load_run(
    path: str | Path | None = None,
    device: str = "auto",
    report: Callable[[str], object] = warnings.warn,
    tokenizer: str | None = None,
) -> Engine:
    """The best checkpoint of a run (or one checkpoint folder; None: the newest run), ready to write. `tokenizer` is a kind or
    the path of a tokenizer.json, for a model that came without one; `report` is handed a line where the best checkpoint is
    damaged and another is taken."""
    checkpoint = load_checkpoint(find_checkpoint(Path(path) if path is not None else None, report))
    if checkpoint.labels:
        folder = as_argument(checkpoint.folder)
        raise ConfigError(f"{checkpoint.folder} tells labels apart and writes no text; use: glassgpt classify {folder}")
    return engine_of(checkpoint, device, tokenizer)


def engine_of(checkpoint: Checkpoint, device: str = "auto", tokenizer: str | None = None) -> Engine:
    """As `load_run`, of a model that tells labels apart as well."""
    chosen = checkpoint.tokenizer(tokenizer)
    return Engine(load_model(checkpoint, decide_device(device).choice), chosen, ends_of(checkpoint, chosen))


def ends_of(checkpoint: Checkpoint, tokenizer: Tokenizer) -> set[int]:
    """The tokens that end a text beside end-of-text: what ends an answer, and what a published model was told."""
    template = checkpoint.template
    return ({template.end_id(tokenizer)} if template else set()) | published_ends(checkpoint.state)
