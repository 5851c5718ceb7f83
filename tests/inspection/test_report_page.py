"""The pages of a report and of a comparison, in a real browser, without a network."""

import re

import pytest

from glassgpt.inspection import compare_runs, findings, look, render, report_run

from .runs import RESULT, labelled, run_of, step_line
from .test_look import engine_of
from .test_page import BROWSER, PROMPT
from .test_page import drawn as drawn_page

HOSTILE = {"samples": ((0, ""), (30, PROMPT)), "n_layer": 2, "text_field": "<b>field"}


# What a person does: take every choice, and go along every curve.
HANDS = """for (const choice of document.querySelectorAll("input")) choice.click();
for (const svg of document.querySelectorAll("svg")) svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
"""


def page(kind, folder):
    a, b = run_of(folder / "b&amp;a", **HOSTILE), run_of(folder / "b", **HOSTILE, seed=6)
    if kind == "compare":
        return render("compare.html", compare_runs([a, b]))
    engine = engine_of("gpt2", context_length=64)
    found = findings(look(engine, engine.encode_prompt(PROMPT)))
    found |= {"checkpoint": "step-00000030", "whose": "the text of --prompt", "command": "glassgpt inspect a"}
    return render("report.html", report_run(a) | {"found": found, "why": ""})


@pytest.mark.parametrize("kind", ["report", "compare"])
def test_a_page_asks_nobody_for_anything_and_holds_no_tag_of_a_sample(tmp_path, kind):
    html = page(kind, tmp_path)
    assert not re.search(r"https?://|src=[^x]|@import|url\(|\{\{", html.replace(PROMPT, ""))
    assert html.count("</script>") == 2 and "<img" not in html
    assert "default-src 'none'" in html and html.startswith("<!doctype html>")


END = 'document.body.dataset.drawn = "yes"'


def drawn(html, folder, hands="", width=800):
    """The page as a browser has it once its script has come to its end and `hands` have done their part."""
    dom = drawn_page(folder, html.replace(END, hands + END), width)
    return dom, re.sub(r"<script.*?</script>", "", dom, flags=re.S)


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("kind", ["report", "compare"])
def test_a_browser_draws_it_and_shows_samples_as_text(tmp_path, kind):
    dom, seen = drawn(page(kind, tmp_path), tmp_path, HANDS)
    assert "<title>GlassGPT: " in dom and "<img" not in dom and "<b>field" not in dom
    assert "&lt;/script&gt;&lt;img src=x onerror=document.title='run'&gt;&lt;b&gt;&amp;amp;</pre>" in seen
    assert seen.count("<path") >= (6 if kind == "report" else 4) and "NaN" not in seen and "Infinity" not in seen
    assert seen.count("<circle") >= 2 and "2.5000" in seen
    assert "b&amp;amp;a" in seen
    if kind == "report":
        assert "&lt;b&gt;field" in seen and "step 30\ntokens_per_second: 330</div>" in seen
    else:
        assert ">seconds in the loop</text>" in seen and ">bits a byte</text>" in seen  # the last choices
        assert "seconds in the loop 6\nb&amp;amp;a: " in seen and "b, val_loss: 3.6</div>" in seen


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("make", [report_run, compare_runs])
def test_a_long_sample_says_that_it_goes_on(tmp_path, make):
    long, short = (
        run_of(tmp_path / name, samples=((30, text),)) for name, text in (("a", "row\n" * 100), ("b", "row"))
    )
    if make is report_run:
        pages = [render("report.html", report_run(run) | {"found": None}) for run in (long, short)]
    else:
        pages = [render("compare.html", compare_runs([long, short]))]
    said = [drawn(html, tmp_path)[0].count('data-more="scroll, there is more below"') for html in pages]
    assert said == ([1, 0] if make is report_run else [1])


# How large the words of each curve are, beside those of the page: at first, and once its place is narrower.
MEASURE = """const measure = name => { document.body.dataset[name] = [...document.querySelectorAll("figure svg")].map(
  svg => (svg.getBoundingClientRect().width / svg.viewBox.baseVal.width).toFixed(2)).join(); };
measure("atFirst");
const wide = document.body.clientWidth;
document.body.style.maxWidth = "18rem";
new ResizeObserver(() => document.body.clientWidth < wide && measure("later")).observe(document.body);
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(("kind", "curves"), [("report", 4), ("compare", 1)])
def test_the_words_of_a_curve_are_no_smaller_on_a_narrow_page(tmp_path, kind, curves):
    html = page(kind, tmp_path)
    for _ in range(5):  # a busy browser may draw no second frame
        dom, _ = drawn(html, tmp_path, MEASURE, width=500)
        if "data-later" in dom:
            break
    for name in ("at-first", "later"):
        (sizes,) = re.findall(f'data-{name}="(.*?)"', dom)
        assert len(sizes.split(",")) == curves and min(map(float, sizes.split(","))) > 0.98, name


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_single_figure_is_said_and_not_drawn(tmp_path):
    lines = [step_line(1), {"step": 1, "val_loss": 0.25, "accuracy": 1.0, "best_val_loss": 0.25}]
    _, seen = drawn(
        render("report.html", report_run(labelled(tmp_path / "a", lines)) | {"found": None, "why": ""}), tmp_path
    )
    assert seen.count("<svg") == 1  # which is a page's own, and not shown
    assert "accuracy: 100 (at step 1; a curve takes two)" in seen and "val_loss: 0.25 (at step 1;" in seen


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(
    ("steps", "names"), [(19, ["train_loss"]), (20, ["train_loss, one batch", "train_loss, smoothed"])]
)
def test_a_loss_of_too_few_points_to_be_smoothed_is_one_curve(tmp_path, steps, names):
    lines = [step_line(step, train_loss=4.0 - step % 2) for step in range(1, steps + 1)]
    _, seen = drawn(
        render("report.html", report_run(run_of(tmp_path / "a", lines)) | {"found": None, "why": ""}), tmp_path
    )
    assert re.findall("<i [^>]*></i>(train_loss[^<]*)<", seen) == names


# What sticks out of a narrow page, and whether a table that goes on beyond its edge shows it there: in its background some
# pictures move along with it, and others stay.
EDGES = """document.body.style.maxWidth = "15rem"; setTimeout(() => {
  const edge = document.body.getBoundingClientRect().right - parseFloat(getComputedStyle(document.body).paddingRight) + 1;
  const all = [...document.querySelectorAll("main *")].filter(one => !one.parentElement.closest(".scroll"));
  document.body.dataset.beyond = all.filter(one => one.getBoundingClientRect().right > edge).map(one => one.tagName).join();
  const wide = [...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth);
  document.body.dataset.moves = wide.map(one => new Set(getComputedStyle(one).backgroundAttachment.split(", ")).size).join();
}, 1000);
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("kind", ["report", "compare"])
def test_nothing_sticks_out_of_a_narrow_page_and_a_cut_table_shows_that_it_goes_on(tmp_path, kind):
    dom, _ = drawn(page(kind, tmp_path), tmp_path, EDGES, width=500)
    assert 'data-beyond=""' in dom
    (moves,) = re.findall('data-moves="(.*?)"', dom)
    assert moves and set(moves.split(",")) == {"2"}


# How wide the tiles and the small curves of each row are together, beside their place.
ROWS = """document.body.dataset.rows = [...document.querySelectorAll(".even")].map(box => {
  const rows = Map.groupBy(box.children, one => one.offsetTop), gap = parseFloat(getComputedStyle(box).columnGap);
  const together = row => row.reduce((sum, one) => sum + one.getBoundingClientRect().width + gap, -gap);
  return [...rows.values()].map(row => `${row.length}:${Math.round(together(row) - box.clientWidth)}`).join();
}).join(";");
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(("width", "expected"), [(1280, [[7, 6], [2, 2]]), (600, [[3, 3, 3, 3, 1], [1, 1, 1, 1]])])
def test_tiles_and_curves_stand_in_full_rows(tmp_path, width, expected):
    report = report_run(labelled(tmp_path / "a")) | {"found": None, "why": ""}
    dom, _ = drawn(render("report.html", report), tmp_path, ROWS, width)
    (rows,) = re.findall('data-rows="(.*?)"', dom)
    rows = [[tuple(map(int, row.split(":"))) for row in box.split(",")] for box in rows.split(";")]
    assert [[count for count, _ in box] for box in rows] == expected
    assert all(abs(short) <= 3 for box in rows for _, short in box)


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_page_speaks_of_the_best_only_where_it_is_marked(tmp_path):
    runs = [run_of(tmp_path / "a"), run_of(tmp_path / "b", seed=6)]  # of the same figures
    _, seen = drawn(render("compare.html", compare_runs(runs)), tmp_path)
    assert "Bold and green" not in seen and "n best" not in seen and "A dash" not in seen
    better = run_of(tmp_path / "c", result=RESULT | {"val_loss": 2.1}, architecture="gpt2")
    _, seen = drawn(render("compare.html", compare_runs([runs[0], better])), tmp_path)
    assert "Bold and green" in seen and seen.count("n best") == 1 and "A dash" in seen and "<td>\u2013</td>" in seen
    killed = run_of(tmp_path / "k", [step_line(1)], None)
    killed.checkpoint_folder(0).mkdir(parents=True)
    _, seen = drawn(render("compare.html", compare_runs([runs[0], killed])), tmp_path)
    assert "k: Broken off (killed, or ended by an error) at step 1 of 30" in seen and "Dots: val_loss" in seen
    _, seen = drawn(render("report.html", report_run(killed) | {"found": None, "why": ""}), tmp_path)
    assert "to go on from step 0, which is saved: glassgpt resume" in seen


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_page_of_labels_says_what_labels_are(tmp_path):
    run = labelled(tmp_path / "a", accuracy=1.0)
    _, seen = drawn(render("report.html", report_run(run) | {"found": None, "why": ""}), tmp_path)
    assert ">100</text>" in seen and ">105</text>" not in seen  # per cent
    assert "by itself" not in seen and "what the model said of the first texts" in seen
    assert "Inside the model" not in seen and "inspect" not in seen
    assert "100.0 %" in seen and "n best" not in seen  # one validation is as good as the other


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_the_best_validation_is_marked_once(tmp_path):
    losses = {10: 2.6, 20: 2.4, 30: 2.4}
    lines = [step_line(step) for step in range(1, 31)]
    lines += [{"step": step, "val_loss": loss, "bits_per_byte": 2 * loss} for step, loss in losses.items()]
    report = report_run(run_of(tmp_path / "a", lines)) | {"found": None, "why": ""}
    _, seen = drawn(render("report.html", report), tmp_path)
    assert re.findall(r'<tr><th>(\d+)</th><td class="n best">', seen) == ["20"] == [str(report["figures"]["best_step"])]


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_the_others_are_drawn_in_bits_beside_labels(tmp_path):
    runs = [run_of(tmp_path / "a"), labelled(tmp_path / "l"), run_of(tmp_path / "b", seed=6)]
    html = render("compare.html", compare_runs(runs))
    _, seen = drawn(html, tmp_path)
    assert ">nats a token, of labels a text</text>" in seen and "Left out" not in seen and "l, val_loss" in seen
    _, seen = drawn(html, tmp_path, HANDS)
    assert ">bits a byte</text>" in seen and "l (it tells labels apart)" in seen and "l, val_loss" not in seen
    assert "b, val_loss: 3.6</div>" in seen
    assert "what the model wrote by itself; what the model said of the first texts for validation" in seen
