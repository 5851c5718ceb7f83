"""The README.md of an exported model: what it is, how well it did, how to use it."""

from collections.abc import Mapping
from typing import Any

from glassgpt.config import GPTConfig
from glassgpt.model.size import count_parameters
from glassgpt.tokenizer import Tokenizer


def model_card(config: GPTConfig, name: str, tokenizer: Tokenizer | None, result: Mapping[str, Any] | None) -> str:
    """`result` has the metrics of this checkpoint; a model that was not trained here has none."""
    rows = [
        ("architecture", {"modern": "Qwen3 block"}.get(config.architecture, "GPT-2")),
        ("parameters", f"{count_parameters(config).total:,}"),
        ("layers x width", f"{config.n_layer} x {config.n_embd}, {config.n_head} heads"),
        ("context", f"{config.context_length:,} tokens"),
        ("tokenizer", f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens" if tokenizer else "none came with it"),
    ]
    if result:
        rows += [
            ("validation loss", f"{result['val_loss']:.4f} nats a token, {result['bits_per_byte']:.4f} bits a byte"),
            ("trained on", f"{result['tokens']:,} tokens in {result['step']:,} steps, {result['seconds']:,.0f} s"),
        ]
    table = "\n".join(f"| {what} | {figure} |" for what, figure in rows)
    usage = "" if tokenizer is None else f"""
```python
from transformers import pipeline

print(pipeline("text-generation", model="{name}")("The")[0]["generated_text"])
```
"""  # fmt: skip
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- glassgpt
---

# {name}

A language model made with GlassGPT and written as a Hugging Face folder.

| | |
|---|---|
{table}
{usage}"""
