"""Each line beside what it made: against the file, and against what `capture` sees."""

import base64
import importlib.util
import sys

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.inspection import capture, render, trace, traced

from ..model.conftest import small, some_tokens
from .test_look import engine_of


@pytest.fixture
def engine_of_diverged():
    engine = engine_of("gpt2")
    with torch.no_grad():
        engine.model.ln_f.weight[0] = torch.nan
    return engine


def page_of(engine, prompt):
    return traced(engine, engine.encode_prompt(prompt))


def line_with(traced, text):
    (line,) = [line for lines in traced.values() for line in lines if text in line.source]
    return line


def test_the_lines_are_those_of_the_models_own_files(model, tokens):
    traced = trace(model, tokens).files
    own, *others = traced
    assert own.name == f"{model.config.architecture}.py"
    assert [path.name for path in others] == [*["modern.py"] * (model.config.architecture == "ngram"), "attention.py"]
    for path, lines in traced.items():
        assert [line.source for line in lines] == path.read_text("utf-8").splitlines()
        assert [line.number for line in lines] == [*range(1, len(lines) + 1)]
        assert any(line.runs for line in lines)


def test_a_line_has_the_tensor_that_it_made_once_a_block():
    model, tokens = small(), some_tokens(5, 7)
    traced = trace(model, tokens).files
    found = capture(model, tokens, ["block.*", "embedding"])
    after = line_with(traced, "return x + self.mlp(self.ln_2(x))")
    assert [[value.name for value in run.values] for run in after.runs] == [["from ln_2", "from mlp", "returned"]] * 2
    for i, run in enumerate(after.runs):
        assert run.block == i
        value = run.values[-1]
        stream = found[f"block.{i}"]
        assert value.shape == (5, 7, 18)
        expected = (stream.mean().item(), stream.std(correction=0).item(), stream.min().item(), stream.max().item())
        assert (value.mean, value.std, value.least, value.most) == pytest.approx(expected)
        assert value.picture.equal(stream[0].float())
    _, q, k, v = line_with(traced, "self.c_attn(x).split").runs[1].values
    assert (q.name, k.name, v.name) == ("q", "k", "v") and q.shape == (5, 7, 18)
    (embedded,) = line_with(traced, "x = self.drop(").runs
    assert embedded.block is None and embedded.values[-1].mean == pytest.approx(found["embedding"].mean().item())
    assert not line_with(traced, "class Block").runs


def test_each_run_of_a_line_is_of_the_block_and_the_module_that_it_ran_in(model, tokens):
    """Also where a line runs several times in a block, or behind the last one, as a norm of all does."""
    traced, found = trace(model, tokens).files, capture(model, tokens, ["block.*"])
    modules = dict(model.named_modules())
    names = {id(block): i for i, block in enumerate(model.blocks)}
    for line in (line for lines in traced.values() for line in lines):
        for run in line.runs:
            inside = [
                i for i, block in enumerate(model.blocks) if any(m is modules[run.module] for m in block.modules())
            ]
            assert run.block in (inside or [None, *names.values()]), line
    (calls,) = [line for lines in traced.values() for line in lines if line.source.strip().startswith("x = block(x")]
    for i, run in enumerate(calls.runs):  # of the line that calls the blocks, the run in which one was called is its
        assert run.block == i and run.values[0].mean == pytest.approx(found[f"block.{i}"].mean().item())


def test_a_norm_that_runs_four_times_in_a_block_is_told_apart():
    traced = trace(small("modern"), some_tokens(2, 7)).files
    runs = [(run.block, run.module.rpartition(".")[2]) for run in line_with(traced, "return super().forward(x").runs]
    inside = ("input_layernorm", "q_norm", "k_norm", "post_attention_layernorm")
    assert runs == [*((i, name) for i in (0, 1) for name in inside), (None, "norm")]
    of_queries_and_keys = [(run.block, run.module) for run in line_with(traced, "return x * cos").runs]
    assert of_queries_and_keys == [
        (i, f"model.layers.{i}.self_attn") for i in (0, 0, 1, 1)
    ]  # which called the function


def test_calls_of_one_function_are_told_apart_as_they_are_written(model, tokens):
    """Two of `rotate`, three of `split_heads`; and several lines around a call are one."""
    files = trace(model, tokens).files
    called = {
        "modern": {"return x * cos": ["rotate(q, *angles)", "rotate(k, *angles)"]},
        "textbook": {
            "return x.view(B": [f"self.split_heads({x})" for x in "qkv"],
            "y = compute(": [
                "self.sublayer(x, self.ln_1, lambda y: self.attn(y, cache))", "self.sublayer(x, self.ln_2, self.mlp)",
            ],
        },
    }  # fmt: skip
    for line, calls in called.get(model.config.architecture, {}).items():
        assert [run.call for run in line_with(files, line).runs] == 2 * calls
    for lines in files.values():
        for run in (run for line in lines for run in line.runs if run.call):
            assert any(run.call in line.source for lines in files.values() for line in lines)


def test_what_modules_give_on_the_way_is_shown_and_nothing_twice():
    model, tokens = small("modern"), some_tokens(5, 7)
    files = trace(model, tokens).files
    mlp = "model.layers.1.mlp"
    found = capture(model, tokens, [f"{mlp}.gate_proj", f"{mlp}.up_proj", mlp])
    gate, up, returned = line_with(files, "F.silu(self.gate_proj(x))").runs[1].values
    assert (gate.name, up.name, returned.name) == (
        "from gate_proj",
        "from up_proj",
        "returned",
    )  # down_proj's is returned
    for value, name in ((gate, f"{mlp}.gate_proj"), (up, f"{mlp}.up_proj"), (returned, mlp)):
        assert value.shape == tuple(found[name].shape) and value.mean == pytest.approx(found[name].mean().item())
    assert [value.name for value in line_with(files, "x = self.dropout(self.embed(").runs[0].values] == ["x"]
    added = line_with(files, "x = x + self.dropout(self.self_attn(").runs[1].values
    assert [value.name for value in added] == ["from input_layernorm", "from self_attn", "x"]


def test_what_a_fused_attention_computes_is_spelled_out_beside_it(model, tokens):
    found = trace(model, tokens)
    (path, spelled), names = [*found.files.items()][-1], [f"block.{i}.weights" for i in range(2)]
    assert path.name == "attention.py"
    weights = capture(model, tokens, names)
    line = line_with({path: spelled}, "weights = attention_weights(q, k)")
    assert [run.block for run in line.runs] == [0, 1]
    for run, name in zip(line.runs, names, strict=True):
        (value,) = run.values
        assert value.shape == tuple(weights[name].shape) and value.picture.allclose(weights[name][0, 0].float())
        assert "attn" in run.module
    scores = line_with({path: spelled}, "scores = q @")
    assert [run.values[0].shape for run in scores.runs] == [tuple(weights[name].shape) for name in names]
    mask = line_with({path: spelled}, "return torch.ones(T, S, dtype=torch.bool")
    assert mask.runs[0].values[0].picture.equal(torch.ones(7, 7).tril())
    heads = line_with({path: spelled}, "return weights @").runs[1].values[0]
    fused = line_with({path: spelled}, "return F.scaled_dot_product_attention(").runs
    if model.config.architecture == "textbook":
        assert found.apart is None and not fused
    else:
        assert 0 <= found.apart < 1e-12 and fused[1].values[0].mean == pytest.approx(heads.mean)


def test_the_page_says_what_was_computed_beside():
    pages = {architecture: page_of(engine_of(architecture), "some words") for architecture in ("gpt2", "textbook")}
    notes = {name: {file["name"]: file["about"] for file in page["files"]} for name, page in pages.items()}
    assert [("stand in attention.py" in page["about"]) for page in pages.values()] == [True, False]
    assert notes["textbook"] == {"textbook.py": "", "attention.py": ""} and notes["gpt2"]["gpt2.py"] == ""
    assert "explicit_attention was run for this page" in notes["gpt2"]["attention.py"]


def test_a_model_that_diverged_is_traced(engine_of_diverged):
    data = page_of(engine_of_diverged, "some words")
    values = [v for file in data["files"] for line in file["lines"] for run in line["runs"] for v in run["values"]]
    assert any(v["mean"] is None for v in values) and any(v["mean"] is not None for v in values)
    (normed,) = [v for v in values if v["mean"] is None and v["name"] == "returned" and v["shape"][-1] == 18]
    cells = torch.frombuffer(bytearray(base64.b64decode(normed["picture"])), dtype=torch.uint8).view(normed["grid"])
    assert (cells[:, 0] == 128).all() and (cells[:, 1:] != 128).any()  # what is not finite is left out, and only that
    render("trace.html", data)


def test_bytes_among_the_tokens_are_explained():
    said = "<e2> is a byte of a character that several tokens make up."
    assert "[<c3>] [<a9>]" in (about := page_of(engine_of("gpt2"), "\u00e9")["about"]) and said in about
    assert said not in page_of(engine_of("gpt2"), "<ex>")["about"]


def test_the_model_computes_the_same_and_the_debugger_is_given_back(model, tokens):
    """Also where the model fails on the way."""

    def debugger(frame, event, argument):
        return None

    def fail(module, inputs):
        raise RuntimeError("on the way")

    before, expected = sys.gettrace(), model(tokens)
    sys.settrace(debugger)
    try:
        trace(model, tokens)
        assert sys.gettrace() is debugger and model(tokens).equal(expected)
        hook = model.blocks[1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="on the way"):
            trace(model, tokens)
        assert sys.gettrace() is debugger
        hook.remove()
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert model(tokens).equal(expected)
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("wrong", [torch.tensor([1, 2]), torch.tensor([[1, 23]]), torch.tensor([[-1, 2]])])
def test_what_are_no_ids_of_the_model_is_said(model, wrong):
    with pytest.raises(ConfigError, match="there is no token|tokens have to be a tensor"):
        trace(model, wrong)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 6, 7])
def test_a_picture_is_of_the_first_head_wherever_the_heads_stand(length):
    """Before and after they change places with positions; also where there are as many tokens as heads (6), keys (2) or
    features of a head (4)."""
    model, tokens = small("modern"), some_tokens(5, length)
    files = trace(model, tokens).files
    H, K, D = model.config.n_head, model.config.n_kv_head, model.config.head_width
    for name, heads in (("q", H), ("k", K)):
        found = capture(model, tokens, [f"model.layers.*.self_attn.{name}_norm"])
        runs = line_with(files, f"{name} = self.{name}_norm(").runs
        for run, normed in zip(runs, [normed for at, normed in found.items() if at != "logits"], strict=True):
            values = {value.name: value for value in run.values}
            before, after = values[f"from {name}_norm"], values[name]
            assert before.shape == (5, length, heads, D) and after.shape == (5, heads, length, D)
            assert before.picture.equal(normed[0, :, 0].float()) and after.picture.equal(before.picture)


def test_pictures_are_small_whatever_the_tensor():
    model = small(vocab_size=301, context_length=90)
    for line in (line for lines in trace(model, some_tokens(1, 80, vocab_size=301)).files.values() for line in lines):
        for run in line.runs:
            assert all(v.picture.shape[0] <= 24 and v.picture.shape[1] <= 96 for v in run.values)


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
    own = next(iter(trace(model, some_tokens(5, 7)).files.values()))
    assert [(line.source.strip(), len(line.runs)) for line in own if line.runs] == [
        ("hidden = (", 1),
        ("return hidden", 1),
    ]
    (run,) = line_with({0: own}, "hidden = (").runs
    (value,) = run.values
    assert value.shape == (5, 7, 23)
