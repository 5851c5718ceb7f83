"""Each line beside what it made: against the file, and against what `capture` sees."""

import importlib.util
import sys

import pytest

from glassgpt.inspection import capture, trace

from ..model.conftest import small, some_tokens


def line_with(traced, text):
    (line,) = [line for lines in traced.values() for line in lines if text in line.source]
    return line


def test_the_lines_are_those_of_the_models_own_files(model, tokens):
    traced = trace(model, tokens)
    own, *others = traced
    assert own.name == f"{model.config.architecture}.py"
    assert [path.name for path in others] == (["modern.py"] if model.config.architecture == "ngram" else [])
    for path, lines in traced.items():
        assert [line.source for line in lines] == path.read_text("utf-8").splitlines()
        assert [line.number for line in lines] == [*range(1, len(lines) + 1)]
        assert any(line.runs for line in lines)


def test_a_line_has_the_tensor_that_it_made_once_a_block():
    model, tokens = small(), some_tokens(5, 7)
    traced = trace(model, tokens)
    found = capture(model, tokens, ["block.*", "embedding"])
    after = line_with(traced, "return x + self.mlp(self.ln_2(x))")
    assert [[value.name for value in run] for run in after.runs] == [["returned"]] * 2
    for i, (value,) in enumerate(after.runs):
        stream = found[f"block.{i}"]
        assert value.shape == (5, 7, 18)
        expected = (stream.mean().item(), stream.std(correction=0).item(), stream.min().item(), stream.max().item())
        assert (value.mean, value.std, value.least, value.most) == pytest.approx(expected)
        assert value.picture.equal(stream[0].float())
    q, k, v = line_with(traced, "self.c_attn(x).split").runs[1]
    assert (q.name, k.name, v.name) == ("q", "k", "v") and q.shape == (5, 7, 18)
    (embedded,) = line_with(traced, "x = self.drop(").runs
    assert embedded[0].mean == pytest.approx(found["embedding"].mean().item())
    assert not line_with(traced, "class Block").runs


def test_the_model_computes_the_same_and_the_debugger_is_given_back(model, tokens):
    before, expected = sys.gettrace(), model(tokens)
    trace(model, tokens)
    assert sys.gettrace() is before and model(tokens).equal(expected)


def test_pictures_are_small_whatever_the_tensor():
    model = small(vocab_size=301, context_length=90)
    ((_, lines),) = trace(model, some_tokens(1, 80, vocab_size=301)).items()
    for line in lines:
        for run in line.runs:
            assert all(v.picture.shape[0] <= 24 and v.picture.shape[1] <= 96 for v in run)


SPREAD = """
from glassgpt.model.gpt2 import GPT2


class Spread(GPT2):
    def unembed(self, hidden):
        hidden = (
            hidden
            @ self.unembedding.T
        )
        return hidden
"""


def test_a_statement_of_several_lines_is_one(tmp_path, monkeypatch):
    (tmp_path / "spread.py").write_text(SPREAD)
    spec = importlib.util.spec_from_file_location("glassgpt.model.spread", tmp_path / "spread.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    model = small()
    model.__class__ = module.Spread
    own = next(iter(trace(model, some_tokens(5, 7)).values()))
    assert [(line.source.strip(), len(line.runs)) for line in own if line.runs] == [
        ("hidden = (", 1),
        ("return hidden", 1),
    ]
    ((value,),) = line_with({0: own}, "hidden = (").runs
    assert value.shape == (5, 7, 23)
