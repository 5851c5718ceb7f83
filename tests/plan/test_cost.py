import json

import pytest
import torch

from glassgpt.config import PRESETS, build_config
from glassgpt.config.presets import SIZES_STEP
from glassgpt.errors import ConfigError, GlassError
from glassgpt.model import build_model
from glassgpt.model.size import count_parameters, training_flops
from glassgpt.plan import cost, family, plan
from glassgpt.plan.cost import Place, advice, flops_a_token, needed, on_gpu, with_parent
from glassgpt.plan.counts import with_vocabulary
from glassgpt.plan.gpus import GIB, GPU, GPUS, estimated_tokens_per_second
from glassgpt.plan.speed import Speed
from glassgpt.train import fit
from glassgpt.train.memory import training_memory

SPEED = Speed(step=2.0, precision="float32", replicas=1, parts={})
TINY = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 24,
    "context_length": 32,
    "vocab_size": 101,
    "batch_size": 6,
    "max_steps": 40,
}


@pytest.fixture
def unmeasured(monkeypatch):
    monkeypatch.setattr(cost, "measure_speed", lambda config, micro_batch_size, device: SPEED)


def planned(preset="gpt2", tokens=0.0, **flags):
    return plan(build_config(preset=preset, flags=flags), tokens)


def test_the_parts_are_those_of_the_model_that_is_built(unmeasured):
    found = planned(**TINY)
    model = build_model(build_config(preset="gpt2", flags=TINY).model)
    parts = found["parameters"]
    assert parts["embedding"] == model.embedding.numel()
    assert (
        sum(parts[name] for name in ("embedding", "n_grams", "positions", "attention", "mlp", "norms", "head"))
        == parts["total"]
    )
    assert parts["total"] == sum(p.numel() for p in model.parameters()) == parts["tied"]
    assert parts["untied"] - parts["tied"] == model.unembedding.numel()
    assert parts["rule_of_thumb"] == 12 * 2 * 24**2
    untied = planned(**TINY | {"tie_embeddings": False})["parameters"]
    assert (untied["tied"], untied["untied"], untied["total"]) == (parts["tied"], parts["untied"], parts["untied"])


def test_a_json_object_with_plain_numbers_and_the_drawing(unmeasured):
    found = planned(**TINY)
    assert json.loads(json.dumps(found)) == found
    assert found["flops_a_token"]["backward"] == 2 * found["flops_a_token"]["forward"]
    assert any("block, 2 times" in line for line in found["diagram"])


def test_the_time_is_for_the_tokens_asked_for_else_the_runs_own(unmeasured):
    config = TINY | {"micro_batch_size": 3}
    own, asked = planned(**config), planned(tokens=1e6, **config)
    assert own["tokens"] == 40 * 6 * 32 and asked["tokens"] == 1_000_000
    assert own["machines"][0]["seconds"] == pytest.approx(40 * 2.0)
    assert asked["machines"][0]["seconds"] == pytest.approx(1e6 / (6 * 32) * 2.0)
    timed = planned(
        **{name: value for name, value in config.items() if name != "max_steps"} | {"max_steps": 0, "minutes": 5.0}
    )
    assert timed["machines"][0]["seconds"] == pytest.approx(300, rel=0.01)


@pytest.mark.parametrize("preset", ["mini", "char-cpu", "char-best", "baby", "gpt2", "gpt3-175b"])
def test_no_process_takes_more_than_all_its_parts(unmeasured, preset):
    found = planned(preset, batch_size=8, micro_batch_size=8, vocab_size=4096)
    parts = found["training"]
    assert sum(parts.values()) >= found["machines"][0]["needed"] > parts["python_and_torch"] + parts["weights"]
    assert min(parts.values()) >= 0 and found["generation"]["python_and_torch"] > 100 * 2**20


def test_the_machines_speed_is_not_asked_where_minutes_choose_nothing(unmeasured, monkeypatch):
    """Of a preset with one size it would change nothing, and takes a tenth of a second."""
    monkeypatch.setattr(fit, "probe_seconds", lambda: pytest.fail("measured"))
    assert planned("mini")["sized_for_minutes"] is None
    monkeypatch.setattr(fit, "probe_seconds", lambda: fit.SIZES_STEP)
    assert planned("char-cpu", minutes=2.0)["sized_for_minutes"] == 2.0


def test_what_fits_nowhere_is_not_measured_and_has_no_time(monkeypatch):
    monkeypatch.setattr(cost, "measure_speed", lambda *some: pytest.fail("measured"))
    found = planned("gpt3-175b")
    assert not any(machine["fits"] for machine in found["machines"])
    assert all(machine["seconds"] is None for machine in found["machines"])
    assert found["machines"][0]["needed"] > 16 * 174_604_259_328  # float32, its gradient, two moments
    assert found["advice"]


def test_what_barely_fits_does_without_the_copy_for_a_checkpoint(unmeasured, monkeypatch):
    free = planned(**TINY | {"vocab_size": 200_001})
    needed, copy = free["machines"][0]["needed"], free["training"]["checkpoint"]
    assert copy > 10**7
    monkeypatch.setattr(cost, "total_memory", lambda: needed - copy // 2)
    tight = planned(**TINY | {"vocab_size": 200_001})["machines"][0]
    assert tight["fits"] and tight["needed"] == pytest.approx(needed - copy, rel=0.05)


def place(room):
    return Place(torch.device("cpu"), 2, room, room, 0)


def test_advice_is_what_then_fits_and_no_more():
    config = build_config(preset="gpt2", flags={"batch_size": 12, "device": "cpu"})
    here = {"fits": False, "needed": 10**12, "micro_batch_size": 12}
    assert advice(config, here | {"fits": True, "needed": 1}, place(10**10)) == []
    said = {size: needed(config, size, 1, place(0), with_copy=False) for size in (1, 2, 3, 4, 6)}
    (line,) = advice(config, here, place(said[3] + 1))
    assert line.startswith("--micro-batch-size 3:")
    (line,) = advice(config, here, place(said[1] - 1))
    assert line.startswith("--gradient-checkpointing")
    (line,) = advice(config.resolved(gradient_checkpointing=True), here, place(2 * 10**9))
    assert "--lora" in line
    (line,) = advice(config, here, place(10**8))
    assert "nothing here holds it" in line
    long = config.resolved(context_length=500_000, gradient_checkpointing=True, from_="gpt2", lora=4)
    (line,) = advice(long, here, place(10**10))
    context = int(line.removeprefix("--context-length ").split()[0])
    fits = [
        needed(long.resolved(context_length=n), 1, 1, place(0), with_copy=False) <= 10**10
        for n in (context, 2 * context)
    ]
    assert fits == [True, False]
    (line,) = advice(config.resolved(from_="gpt2", lora=4), here, place(10**9))
    assert "--lora" not in line


def test_a_gpu_takes_what_training_would_there():
    config = build_config(preset="gpt2", flags={"batch_size": 480})
    small, large = (on_gpu(config, GPU("x", "NVIDIA L4", size * GIB)) for size in (12, 24))
    assert 480 % small["micro_batch_size"] == 480 % large["micro_batch_size"] == 0
    assert small["micro_batch_size"] < large["micro_batch_size"] and large["needed"] <= 24 * GIB
    plain = on_gpu(config.resolved(compile="off"), GPU("x", "NVIDIA L4", 24 * GIB))
    assert plain["micro_batch_size"] > large["micro_batch_size"]  # what is compiled holds all logits
    assert on_gpu(config.resolved(micro_batch_size=5), GPU("x", "NVIDIA L4", 24 * GIB))["micro_batch_size"] == 5
    assert not on_gpu(build_config(preset="gpt2-xl"), GPUS[0])["fits"]


def test_operations_are_fewer_for_adapters_and_more_with_gradient_checkpointing():
    plain = build_config(preset="gpt2")
    all_of = {
        name: sum(flops_a_token(plain.resolved(**flags)).values())
        for name, flags in {
            "plain": {}, "lora": {"from_": "gpt2", "lora": 4}, "again": {"gradient_checkpointing": True},
        }.items()
    }  # fmt: skip
    assert all_of["lora"] == pytest.approx(all_of["plain"] * 2 / 3, rel=1e-6)
    assert all_of["again"] == pytest.approx(all_of["plain"] * 4 / 3, rel=1e-6)


def test_labels_ask_for_no_vocabulary():
    text = build_config(preset="gpt2")
    labels = text.resolved(task="labels")
    of_text, of_labels = flops_a_token(text), flops_a_token(labels)
    assert of_text["forward"] - of_labels["forward"] == 2 * 50257 * 768
    memory = [training_memory(config, 1) for config in (text, labels)]
    assert memory[0].most_logits > 20 * memory[1].most_logits


def test_minutes_take_the_size_that_training_would(unmeasured, monkeypatch):
    monkeypatch.setattr("glassgpt.train.fit.probe_seconds", lambda: SIZES_STEP)
    short, long = (planned("char-cpu", max_steps=0, minutes=minutes, threads=2) for minutes in (0.1, 15.0))
    assert short["shape"]["n_embd"] == 64 and short["sized_for_minutes"] is None
    assert long["shape"]["n_embd"] == 256 and long["sized_for_minutes"] == 15
    own = planned("char-cpu", max_steps=0, minutes=15.0, n_layer=3)
    assert own["shape"]["n_embd"] == 64 and own["shape"]["n_layer"] == 3


def test_replicas_that_training_would_refuse_are_refused():
    with pytest.raises(ConfigError, match="replicas is 99"):
        planned("mini", replicas=99)


def test_a_gpu_time_is_a_share_of_its_peak():
    speeds = {
        gpu.name: estimated_tokens_per_second(gpu, training_flops(build_config(preset="gpt2").model)) for gpu in GPUS
    }
    assert 150e12 / 854.9e6 * 0.4 < speeds["RTX 4090"] < 180e12 / 854.9e6 * 0.4
    assert speeds["H100 80GB"] > speeds["A100 80GB"] > speeds["RTX 3090"]


def test_a_vocabulary_made_of_the_text_is_a_guess_and_said_to_be_one():
    config, guessed = with_vocabulary(build_config(preset="char-cpu"))
    assert config.model.vocab_size == 65 and guessed
    assert with_vocabulary(build_config(preset="gpt2"))[1] is False
    assert with_vocabulary(build_config(preset="char-cpu", flags={"vocab_size": 80}))[0].model.vocab_size == 80
    with pytest.raises(ConfigError, match="--vocab-size"):
        with_vocabulary(build_config(flags={"tokenizer": "my/tokenizer.json", "vocab_size": 0}))


def test_a_fine_tuning_has_the_shape_of_its_published_model():
    config = with_parent(build_config(flags={"from_": "gpt2-medium", "lora": 8}))
    assert (config.model.n_layer, config.model.n_embd, config.model.vocab_size) == (24, 1024, 50257)
    assert count_parameters(config.model).total == 354_823_168
    with pytest.raises(ConfigError, match="does not fit"):
        with_parent(build_config(flags={"from_": "gpt2", "n_layer": 3}))


def test_a_folder_comes_before_a_published_name_and_a_preset_is_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GlassError):
        with_parent(build_config(flags={"from_": "mini"}))
    (tmp_path / "gpt2").mkdir()
    with pytest.raises(GlassError):
        with_parent(build_config(flags={"from_": "gpt2"}))


def test_the_family_and_why_it_goes_by_several_numbers():
    told = family(["gpt2", "gpt2-medium", "gpt3-175b"])
    counts = {row["preset"]: row["parameters"] for row in told["models"]}
    assert counts["gpt2"]["tied"] == 124_439_808 and counts["gpt2"]["untied"] == 163_037_184
    assert counts["gpt2-medium"]["total"] == 354_823_168 and counts["gpt3-175b"]["total"] == 174_604_259_328
    words = " ".join(told["why"])
    assert all(number in words for number in ("117M", "124", "163,009,536", "345M", "355M", "estimate"))
    assert told["models"][0]["text_read"].startswith("~") and not told["models"][2]["text_read"].startswith("~")
    assert family(["mini"])["why"] == []
    assert [row["vocabulary_guessed"] for row in family(["gpt2", "baby"])["models"]] == [False, True]
    told = " ".join(family(["gpt2", "mini"])["why"])  # of what is shown, and of nothing else
    assert "117M" in told and "345M" not in told and "GPT-3" not in told
    with pytest.raises(ConfigError, match="gpt5"):
        family(["gpt5"])
    assert len(family([*PRESETS])["models"]) == len(PRESETS)
