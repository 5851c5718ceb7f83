"""Toy models of other programs: every size different from every other, so that a transposed axis cannot pass."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is loaded: no test may wait for a network

import pytest
import torch
import transformers
from torch import nn

from glassgpt.tokenizer import build_tokenizer, save_tokenizer

SIZES = {"vocab_size": 61, "n_positions": 19, "n_layer": 2, "n_head": 3, "n_embd": 24, "n_inner": 40}
QWEN = {
    "vocab_size": 61, "max_position_embeddings": 19, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "hidden_size": 24, "head_dim": 10, "intermediate_size": 40, "rope_theta": 5000.0,
}  # fmt: skip
TEXT = "Glass is made of sand, ünd it breaks. " * 40


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLASSGPT_CACHE", str(tmp_path / "cache"))


def shaken(model: nn.Module, seed: int = 7) -> nn.Module:
    """Weights far from their start: no bias is 0, no norm is 1, no two tensors are alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def hf_gpt2(**settings):
    return shaken(transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES | settings)))


def hf_qwen3(**settings):
    return shaken(transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**QWEN | settings)))


@pytest.fixture
def bpe_file(tmp_path: Path) -> Path:
    """A tokenizer.json with 270 tokens at most."""
    path = tmp_path / "bpe.json"
    save_tokenizer(build_tokenizer("bpe", lambda: iter([TEXT]), 270), path)
    return path
