"""Adapters that were trained here, loaded by peft."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import glassgpt
from glassgpt.checkpoint import find_checkpoint
from glassgpt.errors import ConfigError
from glassgpt.formats import export_model

from .test_export import TINY, trained

peft = pytest.importorskip("peft")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft under transformers 5
@pytest.mark.parametrize("on", ["attention", "mlp", "all"])
@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_peft_computes_what_we_compute(architecture, on):
    parent = trained("char", architecture)
    flags = TINY | {"data": ("texts/3.txt",), "from_": str(parent.folder), "lora": 3, "lora_alpha": 5.0, "lora_on": on}
    for name in ("context_length", "n_layer", "n_head", "n_embd"):
        del flags[name]
    child = glassgpt.train_run(glassgpt.build_config(flags=flags | {"max_steps": 20}), out="child")
    export_model(child.folder, Path("adapters"), to="peft")
    card = Path("adapters/README.md").read_text(encoding="utf-8")  # which says how to get them to work
    assert "glassgpt export child/parent --to huggingface --out base" in card
    export_model(Path("child/parent"), Path("base"), to="huggingface")
    snippet = card.partition("```python\n")[2].partition("```")[0]
    said: dict[str, Any] = {}
    exec(snippet, said)
    adapted = said["model"].eval()
    engine = glassgpt.load_run("child")
    tokens = torch.tensor([engine.tokenizer.encode("Glass is made")])
    with torch.inference_mode():
        theirs = adapted(tokens).logits[0]
        plain = transformers.AutoModelForCausalLM.from_pretrained("base").eval()(tokens).logits[0]
    assert (theirs - plain).abs().max() > 1e-3  # the adapters do something
    assert torch.allclose(theirs, engine.logits("Glass is made"), atol=1e-5)
    export_model(child.folder, Path("merged"), to="huggingface")
    merged = transformers.AutoModelForCausalLM.from_pretrained("merged").eval()
    with torch.inference_mode():
        assert torch.allclose(merged(tokens).logits[0], theirs, atol=1e-5)


def test_whole_weights_are_no_adapters():
    run = trained("char", "gpt2")
    with pytest.raises(ConfigError, match="holds whole weights, no adapters; write it with --to huggingface"):
        export_model(find_checkpoint(run.folder), Path("out"), to="peft")
