"""The house itself: its words, its dependencies, its README."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent
README = (HOME / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def foreign_words():
    words, _shapes = (HOME / "docs/glossary.md").read_text(encoding="utf-8").split("| letter |")
    rows = re.findall(r"^\| `.*?\| (.*?) \|", words, re.M)
    return [word for row in rows for word in re.findall(r"`(\w+)`", row) if not word.endswith("_x")]


@pytest.mark.parametrize("word", foreign_words())
def test_one_name_for_one_thing(word):
    known_as = HOME / "src/glassgpt/config/names.py"  # the table of what others call it
    theirs = HOME / "src/glassgpt/formats"  # files in which others call it so
    used = [
        str(path.relative_to(HOME))
        for path in (HOME / "src").rglob("*.py")
        if path != known_as
        and theirs not in path.parents
        and re.search(rf"\b{word}\b", path.read_text(encoding="utf-8"))
    ]
    assert used == []


def test_a_plain_install_brings_these_packages_and_no_others():
    names = [re.match(r"[\w-]+", need)[0] for need in PROJECT["dependencies"]]
    assert names == [
        "cyclopts",
        "filelock",
        "huggingface-hub",
        "matplotlib",
        "numpy",
        "psutil",
        "rich",
        "safetensors",
        "tokenizers",
        "torch",
    ]


def test_constraints_pin_everything_that_is_asked_for():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (HOME / "constraints.txt").read_text(encoding="utf-8"), re.M))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    needs = [*PROJECT["dependencies"], *(n for extra in PROJECT["optional-dependencies"].values() for n in extra)]
    assert {re.match(r"[\w-]+", need)[0].lower().replace("_", "-") for need in needs} <= pins.keys()
    assert pins["torch"] == "2.13.0"


def sh_blocks():
    return re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)


def test_the_first_two_sh_blocks_are_one_line_each():
    run, check = sh_blocks()[:2]
    assert run.count("\n") == check.count("\n") == 1
    assert run.rstrip().endswith("glassgpt train") and "-c constraints.txt" in run
    assert check.rstrip().endswith("check.py") and "-c constraints.txt" in check


def test_the_commands_of_the_readme_exist():
    from glassgpt.cli.main import VERBS
    from glassgpt.config import PRESETS
    from glassgpt.config.schema import FIELDS, shown_name

    known = {
        *map(shown_name, FIELDS),
        "prompt",
        "pair",
        "help",
        "preset",
        "out",
        "config",
        "to",
        "data",
        "text",
        "tokens",
        "compare",
    }
    commands = re.findall(r"glassgpt (\w+)((?: [^#\n`|]*)?)", README)
    assert {verb for verb, _ in commands if verb in VERBS} == set(VERBS)
    for verb, rest in commands:
        assert verb in VERBS
        for flag in re.findall(r"--([a-z-]+)", rest):
            assert flag.replace("-", "_") in known, flag
        for preset in re.findall(r"--preset ([\w-]+)", rest):
            assert preset in PRESETS


def test_the_python_of_the_readme_runs(tmp_path):
    _, snippet = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    (tmp_path / "song.txt").write_text("Row, row, row your boat,\ngently down the stream.\n" * 90)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"GLASSGPT_CACHE": str(tmp_path / "cache"), "GOMP_SPINCOUNT": "1000"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 2 and re.search(r"torch\.Size\(\[8, \d+\]\)", done.stdout)


def test_the_python_that_looks_inside_runs(tmp_path):
    snippet, _ = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    names = ("self", "path")
    text = "".join(
        f"def f({name}):\n        return {name}\n\ndef read(self, path):\n        return {name}\n\n" for name in names
    )
    (tmp_path / "code.txt").write_text(text * 60)
    flags = {"data": "code.txt", "max_steps": 20, "tokenizer": "bpe", "vocab_size": 290, "context_length": 32}
    before = (
        "import glassgpt\n"
        f"glassgpt.train_run(glassgpt.build_config(preset='char-cpu', flags={flags}), out='runs/python-1')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", before + snippet], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"GLASSGPT_CACHE": str(tmp_path / "cache"), "GOMP_SPINCOUNT": "1000"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"torch\.Size\(\[1, \d+, \d+, \d+\]\)", done.stdout) and done.stdout.count("tensor(") == 2


def test_the_tree_in_the_readme_is_the_tree():
    shown = set(re.findall(r"^  (\w+)/ ", README, re.M))
    assert shown == {p.name for p in (HOME / "src/glassgpt").iterdir() if p.is_dir() and p.name != "__pycache__"}


@pytest.fixture
def bench(monkeypatch):
    """bench/NAME.py by its name."""
    monkeypatch.syspath_prepend(HOME / "bench")
    return importlib.import_module


def test_the_claims_table_is_what_was_measured(bench):
    claims = bench("claims")
    measured = json.loads(claims.CLAIMS.read_text(encoding="utf-8"))
    assert claims.MARK.search(README)[0] == "<!-- claims -->\n" + claims.table(measured) + "<!-- /claims -->"


def test_the_benchmark_page_and_its_claims_are_what_was_measured(bench):
    train = bench("train")
    figures = json.loads(train.FIGURES.read_text(encoding="utf-8"))
    assert train.PAGE.read_text(encoding="utf-8") == train.whole_page(figures)
    rows = [train.Row(**row) for row in figures["train"]["rows"]]
    (group,) = [g for g in json.loads(bench("claims").CLAIMS.read_text("utf-8")) if g["command"] == train.COMMAND]
    assert group["figures"] == train.claims(rows, figures["train"]["names"])
    assert figures.keys() <= {"train", *train.PARTS}


def test_the_other_repositorys_script_is_given_its_arguments_and_its_seed(bench, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import sys, torch; torch.manual_seed(1000); print(sys.argv[1:], torch.initial_seed())")
    command = [sys.executable, "-c", bench("train").SEEDED, "7", str(script), "config.py", "--device=cpu"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert out.strip() == "['config.py', '--device=cpu'] 1007"


def test_the_fidelity_page_lists_every_comparison_within_its_limit(bench):
    fidelity = bench("fidelity")
    rows = fidelity.figures(fidelity.PAGE.read_text(encoding="utf-8"))
    expected = fidelity.comparisons()
    assert rows.keys() - expected.keys() == {name for name in rows if name.startswith("GPT-2's ids and decoded text")}
    for name, comparison in expected.items():
        assert rows[name] <= comparison.limit, name


def test_the_sentence_on_fidelity_is_what_the_page_says(bench):
    fidelity = bench("fidelity")
    said = fidelity.sentence(fidelity.figures(fidelity.PAGE.read_text(encoding="utf-8")))
    assert fidelity.MARK.search(README)[0] == "<!-- fidelity -->\n" + said + "<!-- /fidelity -->"


def test_the_reliability_page_and_table_are_what_was_tried(bench):
    reliability = bench("reliability")
    results = json.loads(reliability.RESULTS.read_text(encoding="utf-8"))
    assert [row[:2] for row in results["rows"]] == [[p.words, p.tests] for p in reliability.PROMISES]
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(results)
    assert (
        reliability.MARK.search(README)[0]
        == "<!-- reliability -->\n" + reliability.table(results) + "<!-- /reliability -->"
    )


def test_every_promise_names_tests_that_exist(bench):
    for promise in bench("reliability").PROMISES:
        files, _, _ = promise.tests.partition(" -k ")
        assert all((HOME / file).exists() for file in files.split())
