import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.config import PRESETS, GPTConfig, build_config
from glassgpt.model import ARCHITECTURES, build_model
from glassgpt.model.size import bytes_of, count_parameters, training_bytes

# The published figures; gpt3-175b by formula only: 650 GB are not allocated to count them.
PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3-175b": 174_604_259_328,
}


@pytest.mark.parametrize(("preset", "expected"), PUBLISHED.items())
def test_published_counts(preset, expected):
    assert count_parameters(build_config(preset=preset).model).total == expected


def test_the_books_variant():
    book = build_config(preset="gpt2", flags={"tie_embeddings": False, "qkv_bias": False}).model
    count = count_parameters(book)
    assert count.total == 163_009_536
    assert count.without_head == 124_412_160
    assert f"{bytes_of(count.total) / 2**20:.2f}" == "621.83"


@st.composite
def shapes(draw):
    architecture = draw(st.sampled_from(sorted(ARCHITECTURES)))
    size = st.integers(1, 7)
    n_head, flag = draw(size), st.booleans()
    shape = {
        "vocab_size": draw(st.integers(1, 40)), "context_length": draw(st.integers(1, 30)), "n_layer": draw(size),
        "n_head": n_head, "n_embd": n_head * 2 * draw(size), "n_inner": draw(st.sampled_from([0, 0, 5, 37])),
        "bias": draw(flag), "qkv_bias": draw(flag), "tie_embeddings": draw(flag),
    }  # fmt: skip
    if architecture == "modern":
        divisors = [k for k in range(1, n_head + 1) if n_head % k == 0]
        shape |= {"n_kv_head": draw(st.sampled_from([0, *divisors])), "head_dim": draw(st.sampled_from([0, 2, 10]))}
    return GPTConfig(architecture=architecture, **shape)


@settings(deadline=None, max_examples=80)
@given(shapes())
def test_the_formula_counts_what_is_built(config):
    model = build_model(config)
    count = count_parameters(config)
    assert count.total == sum(parameter.numel() for parameter in model.parameters())
    head = getattr(model, "lm_head", None)
    assert count.total - count.without_head == (0 if head is None else head.weight.numel())


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in PUBLISHED])
def test_the_formula_counts_the_small_presets(preset):
    config = build_config(preset=preset, flags={"vocab_size": 301}).model
    assert count_parameters(config).total == sum(p.numel() for p in build_model(config).parameters())


def test_training_needs_four_times_the_weights_and_more_for_more_rows():
    config = GPTConfig(vocab_size=301, context_length=64, n_layer=3, n_head=4, n_embd=32)
    weights = bytes_of(count_parameters(config).total)
    one, two, three = (training_bytes(config, micro_batch_size=n) for n in (1, 2, 3))
    a_row = two - one
    assert three - two == a_row > bytes_of(64 * 301)
    assert one - a_row == 4 * weights  # themselves, their gradients and AdamW's two moments
