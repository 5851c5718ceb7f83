import json
import time
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from glassgpt.config import PRESETS, build_config
from glassgpt.config.presets import SIZES_STEP
from glassgpt.data import Batch
from glassgpt.errors import ConfigError, GlassError, MachineError
from glassgpt.machine import threads_restored
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.model.lora import attach_lora, lora_of
from glassgpt.model.size import count_parameters, training_flops
from glassgpt.plan import cost, family, plan
from glassgpt.plan.advice import advice
from glassgpt.plan.cost import Place, flops_a_token, generation, on_gpu, with_parent
from glassgpt.plan.counts import with_vocabulary
from glassgpt.plan.gpus import GIB, GPU, GPUS, estimated_tokens_per_second
from glassgpt.plan.speed import measure_speed
from glassgpt.plan.timing import Speed
from glassgpt.train import fit
from glassgpt.train.loss import plain_loss
from glassgpt.train.memory import LOADED, process_memory, training_memory
from glassgpt.train.recompute import recompute_blocks
from glassgpt.train.settle import fitting_micro_batch

SPEED = Speed(step=2.0, precision="float32", replicas=1, parts={})
CPU = torch.device("cpu")
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
        sum(
            parts[name]
            for name in ("embedding", "n_grams", "positions", "attention", "mlp", "norms", "head", "adapters")
        )
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


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("preset", ["mini", "char-cpu", "char-best", "baby", "gpt2"])
def test_a_process_takes_its_parts_that_are_there_at_once(preset, replicas, monkeypatch):
    """All rows together are no less than it, and more only by what is gone again when another one comes."""
    monkeypatch.setattr(cost, "measure_speed", lambda *_: replace(SPEED, replicas=replicas))
    found = planned(preset, batch_size=8, micro_batch_size=4, vocab_size=4096, dropout=0.0, minutes=0.0, max_steps=9)
    parts, needed = found["training"], found["machines"][0]["needed"]
    assert found["machines"][0]["replicas"] == replicas and min(parts.values()) >= 0
    settled = build_config(
        preset=preset,
        flags={
            "batch_size": 8,
            "vocab_size": 4096,
            "dropout": 0.0,
            "minutes": 0.0,
            "max_steps": 9,
            "micro_batch_size": 4,
        },
    ).resolved(precision="float32")
    before = parts["python_and_torch"] - LOADED
    at_once = process_memory(settled, 4, replicas=replicas, before=before, with_trial=False)
    assert needed == at_once.total
    of_step = parts["activations"] + parts["logits"] + parts["gradients"]
    assert sum(parts.values()) - needed == of_step - at_once.step - at_once.gradients
    assert parts["gradients"] == replicas * parts["weights"]


@pytest.mark.parametrize("preset", ["gpt2", "gpt2-medium", "gpt2-xl"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_process_is_larger_than_its_parts(preset, checkpointing, unmeasured):
    """Where the output layer is the embedding, its gradients lie beside the logits."""
    found = planned(preset, micro_batch_size=1, gradient_checkpointing=checkpointing, max_steps=9)
    assert sum(found["training"].values()) >= found["machines"][0]["needed"]


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


def to_need(config, micro_batch_size, replicas):
    return process_memory(
        config, micro_batch_size, replicas=replicas, before=0, with_copy=False, with_trial=False
    ).total


@pytest.mark.parametrize("gains", [{}, {"bfloat16": 1.3}])
def test_a_trial_counts_where_training_makes_one(gains, monkeypatch):
    """Of a run that is over soon it makes none, nor where the precision was settled before."""
    monkeypatch.setattr(cost, "measure_speed", lambda *_: replace(SPEED, precision="bfloat16", gains=gains))
    shape = {"n_embd": 512, "n_head": 8, "context_length": 256, "vocab_size": 97, "dropout": 0.0}
    found = planned("gpt2", batch_size=16, micro_batch_size=16, minutes=0.0, max_steps=9, n_layer=2, **shape)
    assert (found["training"]["trial"] > 0) == (gains != {}) == found["machines"][0]["with_trial"]


def test_of_what_does_not_fit_nothing_is_said_that_takes_a_speed(unmeasured, monkeypatch):
    shape = {"vocab_size": 97, "micro_batch_size": 8}
    assert planned("mini", **shape)["short_below"]
    monkeypatch.setattr(cost, "total_memory", lambda: 1 << 28)
    found = planned("mini", **shape)
    assert not found["machines"][0]["fits"] and found["short_below"] is None
    # Nor is it known that training would do without its trial of bfloat16, unless it is told to.
    assert found["machines"][0]["with_trial"]
    assert not planned("mini", precision="float32", **shape)["machines"][0]["with_trial"]


def test_advice_is_what_then_fits_and_no_more():
    config = build_config(preset="gpt2", flags={"batch_size": 12, "device": "cpu"})
    here = {"fits": False, "needed": 10**12, "micro_batch_size": 12, "replicas": 1}

    def said(config, available, **changed):
        (line,) = advice(config, here | changed, available, to_need)
        return line

    assert advice(config, here | {"fits": True, "needed": 1}, 10**10, to_need) == []
    of_size = {size: to_need(config, size, 1) for size in (1, 2, 3, 4, 6)}
    assert said(config, of_size[3] + 1).startswith("--micro-batch-size 3:")
    assert said(config, of_size[1] - 1).startswith("--gradient-checkpointing")
    again = config.resolved(gradient_checkpointing=True)
    assert said(again, 2 * 10**9).startswith("--from gpt2 --lora 8")
    assert "nothing here holds it" in said(config, 10**8)
    # Another shape is none that could be gone on from, and what lacks room for a moment only should not become another run.
    assert "--lora" not in said(again.resolved(n_layer=11), 2 * 10**9)
    assert said(again, 2 * 10**9, fits=True).startswith("close other programs")
    long = config.resolved(context_length=500_000, gradient_checkpointing=True, from_="gpt2", lora=4)
    context = int(said(long, 10**10).removeprefix("--context-length ").split()[0])
    fits = [to_need(long.resolved(context_length=n), 1, 1) <= 10**10 for n in (context, 2 * context)]
    assert fits == [True, False]
    assert "--lora" not in said(config.resolved(from_="gpt2", lora=4), 10**9)
    # GPT-3 was never published.
    largest = build_config(preset="gpt3-175b", flags={"batch_size": 1, "device": "cpu"})
    assert "--lora" not in said(largest, to_need(largest.resolved(from_="gpt3-175b", lora=8), 1, 1) + 1)


def test_replicas_are_the_first_to_go():
    config = build_config(preset="gpt2", flags={"batch_size": 2, "micro_batch_size": 1, "dropout": 0.0})
    here = {"fits": True, "needed": to_need(config, 1, 2), "micro_batch_size": 1, "replicas": 2}
    (line,) = advice(config, here, to_need(config, 1, 1), to_need)
    assert line.startswith("--replicas 1:")


def test_no_context_is_advised_that_n_grams_do_not_fit_into():
    config = build_config(
        preset="char-cpu", flags={"n_gram": 100, "context_length": 4096, "vocab_size": 65, "n_embd": 4096}
    )
    here = {"fits": False, "needed": 10**13, "micro_batch_size": 1, "replicas": 1}
    assert advice(config, here, 10**6, to_need) == ["nothing here holds it; a smaller preset, or a larger machine"]


def test_replicas_share_a_micro_batch_that_nobody_asked_for(monkeypatch):
    monkeypatch.setattr(cost, "measure_speed", lambda *_: replace(SPEED, replicas=2))
    shape = {"vocab_size": 4096, "minutes": 0.0, "max_steps": 9, "batch_size": 16}
    found = [
        planned("mini", **shape, **asked)["machines"][0]["micro_batch_size"] for asked in ({}, {"micro_batch_size": 4})
    ]
    assert found == [8, 4]


def test_what_a_gpu_has_free_is_not_what_this_process_has():
    places = [Place(torch.device(kind), 2, 10**10, 10**9, 10**8) for kind in ("cpu", "cuda")]
    assert [place.available for place in places] == [11 * 10**8, 10**9]


def test_rows_of_gpus_are_bounds_for_a_small_model_and_empty_for_float32(unmeasured):
    rows = {n: planned(**TINY | {"n_embd": n})["machines"][1:] for n in (510, 512)}
    assert all(row["is_bound"] for row in rows[510]) and not any(row["is_bound"] for row in rows[512])
    for row in planned(**TINY, precision="float32")["machines"][1:]:
        assert row["fits"] and row["precision"] == "float32" and row["seconds"] is row["tokens_per_second"] is None


def test_what_training_refuses_is_refused():
    with pytest.raises(MachineError, match="lower batch_size"):
        planned("gpt2", n_layer=2, batch_size=2_000_000, micro_batch_size=1)
    with pytest.raises(ConfigError, match="it has to divide micro_batch_size"):
        measure_speed(build_config(preset="baby", flags={"vocab_size": 65, "dropout": 0.0, "replicas": 2}), 3, CPU)


def test_a_batch_without_small_divisors_is_fitted_at_once():
    before = time.monotonic()
    config = build_config(preset="gpt2", flags={"batch_size": 10**9, "context_length": 8})
    assert fitting_micro_batch(config, torch.device("cuda"), 10**11) in (
        2**a * 5**b for a in range(10) for b in range(10)
    )
    assert time.monotonic() - before < 2


def test_a_time_shorter_than_a_step_is_one_step(unmeasured):
    found = planned(**{name: value for name, value in TINY.items() if name != "max_steps"} | {"minutes": 1e-6})
    assert found["tokens"] == 6 * 32 and "minutes are worth" in found["tokens_of"]


def test_keys_and_values_take_what_a_cache_does():
    for architecture in ARCHITECTURES:
        grouped = {"n_kv_head": 1} if architecture in ("modern", "ngram") else {}
        config = build_config(preset="gpt2", flags=TINY | grouped | {"architecture": architecture}).model
        model = build_model(config)
        cache = model.new_cache(1)
        model(torch.zeros(1, 32, dtype=torch.long), cache)
        held = sum(t.nbytes for t in vars(cache).values() if isinstance(t, torch.Tensor) and t.ndim > 3)
        assert generation(config)["cache"] == held, vars(cache).keys()
        assert generation(config)["working"] > 4 * 32 * config.n_embd


def test_a_classifier_writes_nothing_and_has_no_matrix_for_words(unmeasured):
    found = planned(**TINY, task="labels", tie_embeddings=False)
    assert found["generation"] == {} and found["parameters"]["head"] == 0
    tiny = build_config(preset="gpt2", flags=TINY | {"task": "labels", "vocab_size": 1}).resolved(precision="float32")
    assert measure_speed(tiny, 6, CPU).step > 0


def test_a_gpu_takes_what_training_would_there():
    config = build_config(preset="gpt2", flags={"batch_size": 480})
    small, large = (on_gpu(config, GPU("x", "NVIDIA L4", size * GIB)) for size in (12, 24))
    assert 480 % small["micro_batch_size"] == 480 % large["micro_batch_size"] == 0
    tensors = training_memory(config.resolved(precision="bfloat16"), 5, whole_logits=True, on_cpu=False).tensors
    of_five = on_gpu(config.resolved(micro_batch_size=5), GPU("x", "NVIDIA L4", 24 * GIB))["needed"]
    assert of_five > 1.05 * tensors + GIB // 2  # a context, and what the allocator cannot use
    assert small["micro_batch_size"] < large["micro_batch_size"] and large["needed"] <= 24 * GIB
    plain = on_gpu(config.resolved(compile="off"), GPU("x", "NVIDIA L4", 24 * GIB))
    assert plain["micro_batch_size"] > large["micro_batch_size"]  # what is compiled holds all logits
    assert on_gpu(config.resolved(micro_batch_size=5), GPU("x", "NVIDIA L4", 24 * GIB))["micro_batch_size"] == 5
    assert not on_gpu(build_config(preset="gpt2-xl"), GPUS[0])["fits"]


@pytest.mark.parametrize("changes", [{}, {"from_": "x", "lora": 2, "lora_on": "all"}, {"gradient_checkpointing": True}])
def test_operations_are_those_that_torch_counts(changes):
    """Weights that do not learn have no gradients, but what comes before them does; the output is not computed again."""
    shape = {
        "architecture": "textbook",
        "n_layer": 3,
        "n_embd": 24,
        "context_length": 17,
        "bias": False,
        "dropout": 0.0,
    }
    config = build_config(preset="gpt2", flags=TINY | shape | changes)
    model, tokens = build_model(config.model, seed=1), torch.randint(101, (4, 17))
    if config.finetune.lora:
        attach_lora(model, lora_of(config.finetune))
        model.embedding.requires_grad_(True)  # as if a block came before: else the first one's backward is shorter
    if config.train.gradient_checkpointing:
        recompute_blocks(model.train())
    with FlopCounterMode(display=False) as counter:
        plain_loss(model, Batch(tokens, tokens)).backward()
    said = sum(flops_a_token(config).values())
    if config.finetune.lora:
        said += (
            2 * config.model.vocab_size * config.model.n_embd
        )  # the embedding learns here, and the output is tied to it
    assert counter.get_total_flops() == pytest.approx(said * tokens.numel(), rel=1e-3)


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
    # Of text so short that fewer minutes are enough, training takes another size, or stops before.
    length = long["short_below"]
    assert 10_000 < length < 2_000_000
    config = build_config(preset="char-cpu", flags={"max_steps": 0, "minutes": 15.0})
    learned = [int(0.9 * text) + more for text, more in ((length, 1), (length, -1))]  # the rest is for validation
    with threads_restored():
        torch.set_num_threads(2)
        assert [fit.sized(config, n).config.model.n_embd for n in learned] == [256, 64]
    # Of one that trains for no more than the fewest steps, no text is too short.
    assert planned("char-cpu", max_steps=0, minutes=0.001, threads=2)["short_below"] is None
    # Its own number of tokens says nothing of these minutes; the size is theirs all the same.
    asked = planned("char-cpu", tokens=1e6, max_steps=0, minutes=15.0, threads=2)
    assert asked["short_below"] is None and asked["sized_for_minutes"] == 15
    own = planned("char-cpu", max_steps=0, minutes=15.0, n_layer=3)
    assert own["short_below"] is None
    assert planned("mini")["short_below"] and planned("mini", n_layer=3)["short_below"] is None
    assert planned("mini", task="labels")["short_below"] is None and planned("gpt2")["short_below"] is None
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
    for preset in ("mini", "gpt3-175b"):
        with pytest.raises(GlassError, match=preset):
            with_parent(build_config(flags={"from_": preset}))
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
