"""The tour leads to what is there: files, classes, settings, and the words of others that it translates."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from glassgpt.config.names import FOREIGN_NAMES
from glassgpt.config.schema import FIELDS

HOME = Path(__file__).resolve().parent.parent
SOURCE = HOME / "src/glassgpt"
TOUR = (HOME / "docs/tour.md").read_text(encoding="utf-8")
WALK, TABLES = TOUR.split("## You know it as")
TABLE, LENS = TABLES.split("Inside the model, for readers of TransformerLens")


def cells(table):
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines() if row.startswith("|")][2:]


ROWS = cells(TABLE)
MODULE_ROWS = {"CausalSelfAttention": "GPT2Attention", "MLP": "GPT2MLP", "Block": "GPT2Block", "GPT": "GPT2LMHeadModel"}


def words(cell):
    return re.findall(r"`([\w.]+)`", cell)


def test_every_file_and_link_is_there():
    paths = re.findall(r"`([\w./]+/[\w.]*)`", TOUR)
    assert len(paths) > 40
    missing = [p for p in paths if not ((SOURCE / p).exists() or (HOME / p).exists())]
    assert [p for p in missing if not p.startswith(("./figures/", "notes/", "checkpoint"))] == []
    for link in re.findall(r"\]\(([^)]+)\)", TOUR):
        assert (HOME / "docs" / link).exists()


def test_every_class_and_function_stands_in_the_file_that_is_named():
    named = re.findall(r"`([\w/]+\.py)`, (?:class )?`(\w+)`", WALK) + re.findall(
        r"`([\w/]+\.py)` is [^:]*, `(\w+)`", WALK
    )
    assert len(named) >= 6
    for file, name in named:
        tree = ast.parse((SOURCE / file).read_text(encoding="utf-8")).body
        assert name in [node.name for node in tree if isinstance(node, ast.ClassDef | ast.FunctionDef)], (file, name)


def test_the_tour_comes_by_every_lesson_and_every_folder():
    lessons = [file.stem for file in sorted((HOME / "lessons").glob("[0-9]*.py"))]
    rows = re.findall(r"^\| (\d+) (.*?) \|", WALK, re.M)
    assert [int(number) for number, _ in rows] == [int(stem[:2]) for stem in lessons]
    for (_, title), stem in zip(rows, lessons, strict=True):
        assert title.split()[0].lower().split("-")[0] in stem
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders <= set(re.findall(r"`(\w+)/", WALK))


def test_a_setting_is_translated_as_the_message_about_it_does():
    ours = {word for row in ROWS for word in words(row[3])}
    for row in ROWS:
        for foreign in {word for cell in row[:3] for word in words(cell)} & FOREIGN_NAMES.keys():
            assert FOREIGN_NAMES[foreign] in words(row[3]), foreign
    shown = {"context_length", "n_embd", "qkv_bias", "tie_embeddings", "activation", "decay_to", "eval_every"}
    assert shown <= ours & FIELDS.keys()


def test_modules_are_called_so_here_and_in_transformers():
    gpt2 = importlib.import_module("glassgpt.model.gpt2")
    rows = {words(row[0])[0]: row for row in ROWS if words(row[0])}
    for theirs, in_transformers in MODULE_ROWS.items():
        assert words(rows[theirs][2]) == [in_transformers]
        assert hasattr(gpt2, words(rows[theirs][3])[0])
    published = importlib.import_module("glassgpt.model").build_model
    config = importlib.import_module("glassgpt.config").GPTConfig(
        vocab_size=11, context_length=6, n_layer=1, n_head=1, n_embd=4, tie_embeddings=False
    )
    parameters = " ".join(published(config, seed=1).state_dict())
    for row in ROWS:
        if words(row[0]) and words(row[0])[0] in ("transformer.wte", "attn.c_attn", "ln_1"):
            assert all(name in parameters for name in words(row[3]) if name != "nn.Linear")


def test_transformers_has_the_names_that_are_said_to_be_its():
    transformers = pytest.importorskip("transformers")
    gpt2 = importlib.import_module("transformers.models.gpt2.modeling_gpt2")
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=11, n_positions=6)
    settings = {word for row in ROWS[:7] for word in words(row[2])} - {"gelu_new"}
    assert [name for name in settings if not hasattr(config, name)] == [] and config.activation_function == "gelu_new"
    arguments = {word for row in ROWS for word in words(row[2])} & set(dir(transformers.TrainingArguments))
    assert {"max_steps", "warmup_steps", "eval_steps", "max_grad_norm", "per_device_train_batch_size"} <= arguments
    model = gpt2.GPT2LMHeadModel(config)
    assert model.transformer.h[0].attn.c_attn.weight.shape == (4, 12)  # in, out: transposed
    assert all(hasattr(gpt2, name) for name in MODULE_ROWS.values())


def test_activations_have_the_names_under_which_they_are_held_against_transformer_lens(monkeypatch):
    monkeypatch.syspath_prepend(HOME / "bench")
    lens, inspection = (importlib.import_module(name) for name in ("lens", "glassgpt.inspection"))
    config = importlib.import_module("glassgpt.config").GPTConfig(
        vocab_size=11, context_length=6, n_layer=4, n_head=1, n_embd=4
    )
    known = inspection.activation_names(importlib.import_module("glassgpt.model").build_model(config))
    rows = {tuple(words(theirs)): words(ours) for theirs, ours, _ in cells(LENS)}
    named = {theirs: ours for theirs, ours in rows.items() if any("hook_" in name for name in theirs)}
    assert [ours for ours in named.values() if len(ours) != 1 or ours[0] not in known] == []
    old = {"hook_out": "hook_resid_post", "attn.hook_out": "hook_attn_out", "mlp.hook_out": "hook_mlp_out"}
    measured = {(f"blocks.3.{old.get(hook, hook)}",): [f"block.3{part}"] for part, hook in lens.THEIRS.items()}
    assert named == measured | {lens.EMBEDDINGS: ["embedding"], (lens.HIDDEN,): ["hidden"]}
    functions = re.findall(r"^\| `[^|]*\| `(\w+)[`(]", LENS, re.M)
    assert [name for name in functions if name not in {"embedding", "hidden", *dir(inspection)}] == [] and len(
        functions
    ) >= 6
