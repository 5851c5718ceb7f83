import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.errors import ConfigError, MachineError, TokenizerError
from glassgpt.generate import Engine
from glassgpt.model.size import generation_bytes
from glassgpt.tokenizer import build_tokenizer

from .conftest import TEXT, Script, small

KINDS = ["char", "byte", "bpe"]


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, architecture: str) -> Engine:
    """Each kind of tokenizer over each architecture."""
    tokenizer = request.getfixturevalue(request.param)
    return Engine(small(architecture, vocab_size=tokenizer.vocab_size), tokenizer)


def scripted(tokenizer, prompt, *completions: str | list[int]) -> Engine:
    """An engine that writes these completions, one a row."""
    rows = [tokenizer.encode(c) if isinstance(c, str) else c for c in completions]
    length = max(1, len(tokenizer.encode(prompt)))
    return Engine(Script(tokenizer.vocab_size, rows, length), tokenizer)


def test_what_streams_is_what_is_generated(engine):
    for prompt in ("", "the cat"):
        pieces = list(engine.stream(prompt, max_new_tokens=30, temperature=1.5))
        assert "".join(pieces) == engine.generate(prompt, max_new_tokens=30, temperature=1.5) != ""
        assert sum(map(bool, pieces)) > 10  # and it really comes in pieces
        assert [engine.generate(prompt, max_new_tokens=30, temperature=1.5)] == engine.generate_many(
            prompt, 1, max_new_tokens=30, temperature=1.5
        )


def test_the_same_seed_is_the_same_text(engine):
    first, again, other = (engine.generate("the", max_new_tokens=40, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert engine.generate("the", max_new_tokens=40) == engine.generate("the", max_new_tokens=40, seed=1337)


def test_greedy_does_not_depend_on_the_seed(engine):
    assert len({engine.generate("the", max_new_tokens=20, temperature=0, seed=seed) for seed in (1, 2, 3)}) == 1


def test_logits_are_the_models(engine):
    logits = engine.logits("the cat")
    ids = engine.tokenizer.encode("the cat")
    assert logits.shape == (len(ids), engine.tokenizer.vocab_size)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(logits, engine.model(torch.tensor([ids]))[0], rtol=0, atol=0)
    likeliest = engine.tokenizer.token_bytes(int(logits[-1].argmax())).decode(errors="replace")
    assert engine.generate("the cat", max_new_tokens=1, temperature=0) == likeliest


def test_logits_of_more_than_the_context_are_refused(engine):
    text = TEXT[::-1]  # no word of it is one token
    with pytest.raises(ConfigError, match=r"positions are more than this model's context_length 11; pass the last"):
        engine.logits(text)
    assert engine.generate(text, max_new_tokens=3)  # writing crops instead


def test_max_new_tokens(engine):
    assert engine.generate("the", max_new_tokens=0) == ""
    assert "".join(engine.stream("the", max_new_tokens=0)) == ""
    assert engine.generate_many("the", 3, max_new_tokens=0) == ["", "", ""]


def test_max_new_tokens_counts_tokens(char):
    engine = Engine(small(vocab_size=char.vocab_size), char)
    assert [len(engine.generate("the", max_new_tokens=n)) for n in (1, 2, 29)] == [1, 2, 29]


def test_several_samples_are_written_side_by_side(engine):
    texts = engine.generate_many("the", 4, max_new_tokens=25, temperature=1.5)
    assert len(set(texts)) == 4
    steps = list(engine.stream_many("the", 4, max_new_tokens=25, temperature=1.5))
    assert all(len(pieces) == 4 for pieces in steps)
    assert ["".join(row) for row in zip(*steps, strict=True)] == texts
    assert len(set(engine.generate_many("the", 3, max_new_tokens=25, temperature=0))) == 1


def test_samples_are_independent_draws(byte):
    """The first tokens of many samples come as often as the model finds them probable."""
    engine = Engine(small(vocab_size=257), byte)
    n = 3000
    rows = engine.generate_many("x", n, max_new_tokens=1, temperature=0.5, top_k=0)
    probabilities = (engine.logits("x")[-1] / 0.5).softmax(-1)
    likeliest = max(range(128), key=lambda id: probabilities[id])
    expected = probabilities[likeliest].item()
    assert rows.count(chr(likeliest)) / n == pytest.approx(expected, abs=5 * (expected / n) ** 0.5)


@settings(deadline=None, max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_a_character_appears_once_it_is_whole(text):
    byte = build_tokenizer("byte", lambda: iter(()))
    pieces = list(scripted(byte, "x", text).stream("x", max_new_tokens=len(text.encode())))
    assert "".join(pieces) == text
    assert [piece for piece in pieces if piece] == list(text)
    assert pieces[-1] == ""  # nothing was held back to the end
    sizes = [len(character.encode()) for character in text]
    arrivals = [i for i, piece in enumerate(pieces) if piece]
    assert arrivals == [sum(sizes[: i + 1]) - 1 for i in range(len(sizes))]


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=1, max_size=12))
def test_bytes_that_are_no_text_become_replacement_characters(raw):
    byte = build_tokenizer("byte", lambda: iter(()))
    written = scripted(byte, "x", list(raw)).generate("x", max_new_tokens=len(raw))
    assert written == raw.decode(errors="replace") == byte.decode(list(raw))


def test_a_character_cut_by_max_new_tokens_is_shown_as_cut(byte):
    assert scripted(byte, "x", "a€").generate("x", max_new_tokens=3) == "a\ufffd"


def test_end_of_text_ends_a_sample_and_is_not_shown(byte):
    engine = scripted(byte, "x", [*b"ab", 256, *b"never"])
    pieces = list(engine.stream("x", max_new_tokens=8))
    assert pieces == ["a", "b", ""]  # and nothing is computed after it
    half = scripted(byte, "x", ["é".encode()[0], 256, *b"never"])
    assert half.generate("x", max_new_tokens=8) == "\ufffd"
    assert scripted(byte, "x", [256, *b"never"]).generate("x", max_new_tokens=8) == ""


def test_each_sample_ends_on_its_own(byte):
    rows = ([*b"a", 256, *b"zz"], [*b"bcd", 256], [*b"efghij"])
    assert scripted(byte, "x", *rows).generate_many("x", 3, max_new_tokens=5) == ["a", "bcd", "efghi"]
    steps = list(scripted(byte, "x", *rows[:2]).stream_many("x", 2, max_new_tokens=50))
    assert steps == [["a", "b"], ["", "c"], ["", "d"], ["", ""]]


def test_text_that_looks_like_end_of_text_ends_nothing(byte):
    lookalike = "<|endoftext|>!"
    assert scripted(byte, lookalike, lookalike).generate(lookalike, max_new_tokens=14) == lookalike


def test_padding_ids_beyond_the_vocabulary_write_nothing(byte):
    engine = Engine(Script(300, [[*b"a", 299, 257, *b"b"]], 1), byte)
    assert engine.generate("x", max_new_tokens=4) == "ab"


def test_no_prompt_begins_where_a_text_begins(byte, bpe, char):
    for tokenizer in (byte, bpe):
        assert Engine(small(vocab_size=tokenizer.vocab_size), tokenizer).encode_prompt("").tolist() == [
            [tokenizer.end_of_text]
        ]
    assert char.end_of_text is None
    engine = Engine(small(vocab_size=char.vocab_size), char)
    assert engine.encode_prompt("").tolist() == [char.encode("\n")]
    no_lines = build_tokenizer("char", lambda: iter(["abc"]), single_text=True)
    engine = Engine(small(vocab_size=3), no_lines)
    assert engine.encode_prompt("").tolist() == [[0]]
    assert len(engine.generate(max_new_tokens=7)) == 7


def test_a_character_outside_the_vocabulary_is_named(char):
    engine = Engine(small(vocab_size=char.vocab_size), char)
    message = r"^character 'z' \(U\+007A\) at position 4 \(counted from 0\) is not one of the \d+ characters"
    for use in (engine.generate, engine.logits, lambda prompt: next(engine.stream(prompt))):
        with pytest.raises(TokenizerError, match=message):
            use("the z")
    assert len(char.encode(TEXT)) == len(TEXT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1}, "^temperature is -1; it has to be finite and at least 0"),
        ({"top_k": -3}, "^top_k is -3"),
        ({"top_p": 2}, "^top_p is 2; it has to be above 0 and at most 1"),
        ({"max_new_tokens": -1}, "^max_new_tokens is -1"),
        ({"seed": -1}, "^seed is -1"),
        ({"max_new_tokens": "5"}, "^max_new_tokens is '5'; it has to be a whole number"),
        ({"max_new_tokens": 5.5}, "^max_new_tokens is 5.5; it has to be a whole number"),
        ({"temperature": None}, "^temperature is None; it has to be a number"),
        ({"top_k": True}, "^top_k is True; it has to be a whole number"),
        ({"prompt": 5}, "^the prompt is 5; it has to be text"),
        ({"prompt": b"x"}, "^the prompt is b'x'; it has to be text"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(byte, wrong, message):
    engine = Engine(small(vocab_size=257), byte)
    for use in (engine.generate, engine.generate_many, lambda **how: next(engine.stream(**how))):
        with pytest.raises(ConfigError, match=message):
            use(**wrong)


@pytest.mark.parametrize("number", [0, -2, 2**31, 10**400])
def test_at_least_one_sample_and_no_impossible_number(byte, number):
    with pytest.raises(ConfigError, match=f"^num_samples is {number}; it has to be at least 1 and at most 2147483647$"):
        Engine(small(vocab_size=257), byte).generate_many("x", number)


def test_writing_leaves_weights_and_the_global_generator_alone(architecture, byte):
    engine = Engine(small(architecture, vocab_size=257), byte)
    weights = {name: p.clone() for name, p in engine.model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    engine.generate_many("the", 3, max_new_tokens=20)
    engine.logits("the")
    assert torch.equal(torch.get_rng_state(), state)
    for name, p in engine.model.state_dict().items():
        assert torch.equal(p, weights[name])


def test_a_model_fresh_from_training_writes_without_dropout(architecture, byte):
    trained = small(architecture, vocab_size=257, dropout=0.5).train()
    evaluated = small(architecture, vocab_size=257, dropout=0.5).eval()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    texts = [Engine(model, byte).generate("the", max_new_tokens=20, top_k=0) for model in (trained, evaluated)]
    assert texts[0] == texts[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_more_samples_than_memory_holds_are_refused_before_any_is_begun(byte):
    engine = Engine(small(vocab_size=257), byte)
    for number in (10**9, 2**31 - 1):
        with pytest.raises(
            MachineError, match=rf"{number} samples side by side need about .* GB are free; lower num_samples"
        ):
            engine.generate_many("x", number, max_new_tokens=1)


def test_a_single_text_is_always_tried(byte, monkeypatch):
    monkeypatch.setattr("glassgpt.generate.engine.free_memory", lambda device: 0)
    engine = Engine(small(vocab_size=257), byte)
    assert engine.generate_many("x", 1, max_new_tokens=1)
    with pytest.raises(MachineError, match="^2 samples side by side"):
        engine.generate_many("x", 2, max_new_tokens=1)


def test_no_more_memory_is_not_swallowed(byte, monkeypatch):
    """It becomes one line in cli/main.py."""
    engine = Engine(small(vocab_size=257), byte)
    for problem in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")):

        def fail(*arguments, problem=problem):
            raise problem

        monkeypatch.setattr(engine.model, "unembed", fail)
        for use in (engine.generate, engine.generate_many, engine.logits):
            with pytest.raises(type(problem)) as caught:
                use("the")
            assert caught.value is problem


def test_what_generation_keeps_is_no_more_than_was_estimated(byte):
    model = small(vocab_size=257)
    cache = model.new_cache(6)
    assert cache.keys.nbytes + cache.values.nbytes < generation_bytes(model.config, 6)
    assert generation_bytes(model.config, 6) == 6 * generation_bytes(model.config, 1)
