"""The README.md of an exported model: what it is, how well it did, how to use it."""

from collections.abc import Mapping, Sequence
from typing import Any

from glassgpt.config import GPTConfig
from glassgpt.model.size import count_parameters
from glassgpt.tokenizer import Tokenizer


def model_card(
    config: GPTConfig,
    name: str,
    tokenizer: Tokenizer | None,
    result: Mapping[str, Any] | None,
    labels: Sequence[str] = (),
) -> str:
    """`result` has the metrics of this checkpoint; a model that was not trained here has none. `labels`: what it tells apart,
    where it writes no text."""
    kind = "text-classification" if labels else "text-generation"
    rows = [
        ("architecture", {"modern": "Qwen3 block"}.get(config.architecture, "GPT-2")),
        ("parameters", f"{count_parameters(config).total:,}"),
        ("layers x width", f"{config.n_layer} x {config.n_embd}, {config.n_head} heads"),
        ("context", f"{config.context_length:,} tokens"),
        ("tokenizer", f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens" if tokenizer else "none came with it"),
    ]
    if labels:
        rows.append(("labels", ", ".join(labels).replace("|", "\\|")))
    if result:
        figures = (
            f"{result['val_loss']:.4f} nats a text, {result['accuracy']:.1%} of the texts right"
            if labels
            else f"{result['val_loss']:.4f} nats a token, {result['bits_per_byte']:.4f} bits a byte"
        )
        rows += [
            ("validation loss", figures),
            ("trained on", f"{result['tokens']:,} tokens in {result['step']:,} steps, {result['seconds']:,.0f} s"),
        ]
    table = "\n".join(f"| {what} | {figure} |" for what, figure in rows)
    usage = "" if tokenizer is None else f"""
```python
from transformers import pipeline

print(pipeline("{kind}", model="{name}")("The"))
```
"""  # fmt: skip
    return f"""---
library_name: transformers
pipeline_tag: {kind}
tags:
- glassgpt
---

# {name}

A {"model that tells labels apart" if labels else "language model"}, made with GlassGPT and written as a Hugging Face folder.

| | |
|---|---|
{table}
{usage}"""
