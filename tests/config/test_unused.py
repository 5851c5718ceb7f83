"""What is said to play no part, against what a model and a schedule really read."""

from dataclasses import fields, replace

import pytest
import torch

from glassgpt.config import GPTConfig, build_config
from glassgpt.config.schema import FIELDS
from glassgpt.config.unused import IDLE, REFUSED, without_part
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.train.schedule import learning_rate_at

SMALL = {"vocab_size": 23, "context_length": 11, "n_layer": 2, "n_head": 3, "n_embd": 18, "dropout": 0.1}


class Recorded(GPTConfig):
    """Notes which of its settings are read."""

    def __getattribute__(self, name):
        if (read := object.__getattribute__(self, "__dict__").get("read")) is not None:
            read.add(name)
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("changes", [{}, {"bias": False}])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_reads_what_plays_a_part_and_nothing_else(architecture, changes):
    config, read = Recorded(architecture=architecture, **SMALL, **changes), set()
    config.__dict__["read"] = read
    model = build_model(config, seed=3)
    tokens = torch.arange(10)[None]
    model.train()(tokens)
    settings = {field.name for field in fields(GPTConfig)}
    values = build_config(flags={"architecture": architecture}).flat() | changes
    # How long a text may be is held by those who cut it; rotary positions have no table of so many rows.
    assert settings - read - {"context_length"} == without_part(values, REFUSED, IDLE) & settings


def test_every_name_is_that_of_a_setting():
    for table in (REFUSED, IDLE):
        for choice, by_value in table.items():
            assert choice in FIELDS and {name for names in by_value.values() for name in names} <= FIELDS.keys()
    assert not without_part(build_config().flat(), REFUSED) & without_part(build_config().flat(), IDLE)


def test_a_constant_rate_falls_nowhere():
    train = build_config(flags={"schedule": "constant", "max_steps": 50}).train
    assert "decay_to" not in build_config(flags={"schedule": "constant"}).in_use()
    rates = [[learning_rate_at(step, replace(train, decay_to=to)) for step in range(50)] for to in (0.0, 0.7)]
    assert rates[0] == pytest.approx(rates[1])


def test_what_is_in_use_is_shown_as_what_it_comes_to():
    config = build_config(preset="mini", flags={"n_head": 4, "n_embd": 96, "max_steps": 9})
    used = config.in_use()
    assert (used["n_kv_head"], used["head_dim"], used["n_inner"]) == (4, 24, 256) == (
        config.model.kv_heads, config.model.head_width, config.model.mlp_width,
    )  # fmt: skip
    assert not used.keys() & {"bias", "qkv_bias", "activation", "n_gram", "norm_position", "lora_alpha", "minutes"}
    assert used.keys() >= {"rope_theta", "momentum", "lora", "tie_embeddings", "max_steps", "decay_to"}
    assert "tie_embeddings" not in config.resolved(task="labels").in_use()
    assert build_config(flags={"from_": "x", "lora": 2}).in_use().keys() >= {"lora_alpha", "lora_on", "minutes"}
