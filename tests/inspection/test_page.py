"""The pages in a real browser, without a network."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from glassgpt import inspection
from glassgpt.inspection import look, render, traced
from glassgpt.model import ARCHITECTURES

from .test_look import engine_of, scatter
from .test_pairs import decided

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
PROMPT = "</script><img src=x onerror=document.title='run'><b>&amp;"

# Somebody points at a token of the text under attention: it is marked, and the last one is not any more.
END = 'document.body.dataset.drawn = "yes"'
HAND = """const under = [...document.querySelectorAll(".axes ~ .prompt span")];
under[2].dispatchEvent(new MouseEvent("mouseenter"));
document.body.dataset.pointed = under.flatMap((span, i) => span.style.outline ? [i] : []).join();
"""


def page(kind, architecture="gpt2"):
    engine = engine_of(architecture, context_length=64)
    if kind == "trace":
        return render("trace.html", traced(engine, engine.encode_prompt(PROMPT)))
    scatter(engine)
    pair = decided(engine)
    unknown = pair._replace(answer=pair.other_answer, other_answer=pair.answer)
    return render("inspect.html", look(engine, engine.encode_prompt(PROMPT), pairs=[pair, unknown]))


@pytest.mark.parametrize("kind", ["inspect", "trace"])
def test_a_page_asks_nobody_for_anything_and_holds_no_tag_of_the_prompt(kind):
    html = page(kind)
    assert not re.search(r"https?://|src=[^x]|@import|url\(", html.replace(PROMPT, ""))
    assert html.count("</script>") == 2 and "<img" not in html and "{{DATA}}" not in html
    assert "default-src 'none'" in html


def test_no_tag_can_begin_or_end_in_the_data():
    html = render("trace.html", {"about": PROMPT, "files": []})
    assert html.count("</script>") == 2 and "<img" not in html
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', html, re.S)
    assert json.loads(data)["about"] == PROMPT


# What the page's own policy refuses is written down: a request that fails, fails quietly.
WATCH = """<script>document.addEventListener("securitypolicyviolation", event => {
  document.documentElement.dataset.refused = event.blockedURI;
});</script>
"""


def drawn(tmp_path, html, width=1280, asks_nobody=True):
    """The page as a browser has it when its script came to its end."""
    file = tmp_path / "page.html"
    assert html.count("<title>") == 1
    file.write_text(html.replace("<title>", WATCH + "<title>"), encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000",
        f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", timeout=120).stdout
    assert 'data-drawn="yes"' in dom
    assert ("data-refused=" not in dom) == asks_nobody
    return dom


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("kind", ["inspect", "trace"])
def test_a_page_that_asked_for_something_would_be_seen(tmp_path, kind):
    html = page(kind)
    drawn(tmp_path, html)
    drawn(tmp_path, html.replace("</header>", '</header><img src="//host/x">', 1), asks_nobody=False)


def test_scripts_and_styles_can_be_read():
    """One statement a line is what a formatter has made of them; that no line is long is what is left to see."""
    folder = Path(inspection.__file__).parent / "pages"
    files = [file for kind in ("js", "css", "html") for file in folder.glob(f"*.{kind}")]
    assert len(files) >= 19
    for file in files:
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            assert len(line) <= 120, f"{file.name}:{number}"
            if file.suffix == ".css":
                assert line.count("{") + line.count(";") <= 1, f"{file.name}:{number}"
            if file.suffix == ".js" and not line.lstrip().startswith(("for (", "//")):
                assert not re.search(r"[;}]\s*(const|let|return) |; (if|for) \(", line), f"{file.name}:{number}"


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["inspect", "trace"])
def test_a_browser_draws_it_and_shows_tags_as_text(tmp_path, kind, architecture):
    html = page(kind, architecture)
    if kind == "inspect":
        html = html.replace(END, HAND + END)
    dom = drawn(tmp_path, html)
    assert "<title>GlassGPT: " in dom and "<img" not in dom
    shown = re.sub(r"<script.*?</script>", "", dom, flags=re.S)
    assert "&lt;" in shown and shown.count("<canvas") > 5
    if kind == "trace":
        calls = {"modern": ["rotate(q, *angles)", "rotate(k, *angles)"], "ngram": ["1 of 2", "2 of 2"]}  # it has a loop
        assert all(f">{call}</small>" in shown for call in calls.get(architecture, []))
    if kind == "inspect":
        assert "to float32 rounding: nothing is folded, centred or rescaled" in shown
        assert 'data-pointed="2"' in dom
        assert (
            shown.count('class="left"') == shown.count('class="top upright"') > 10
        )  # the tokens beside and above attention
        assert (
            len(re.findall("nats on average|which is wrong", shown))
            == 1
            == shown.count("there is nothing to attribute")
        )
        assert shown.count(">residual stream after<") == 1 and "direction: cosine with the end" in shown
        assert "most excited by" in shown and "NaN" not in shown and "undefined" not in shown
        assert ">worst without<" in shown and ">better without<" in shown
        gated = architecture in ("modern", "ngram")
        assert ("is active far below 0 as well as far above" in shown) == gated
        assert ("below 0 is not excited" in shown) == (not gated)
        assert ("against: " in shown) == (not gated)
        rows = re.findall("<th>part</th>.*?</table>", shown, re.DOTALL)  # left out each, and of the pair that is known
        rows = [name for table in rows for name in re.findall("<th>([^<]+ embedding)</th>", table)]
        assert rows == (
            ["token embedding", "2-gram embedding", "3-gram embedding"] * 2 if architecture == "ngram" else []
        )
        assert ("<th>2-gram embedding</th>" in shown) == (architecture == "ngram")  # of the residual stream


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_page_of_one_token_says_what_it_cannot_have(tmp_path):
    engine = engine_of("ngram")
    dom = drawn(tmp_path, render("inspect.html", look(engine, engine.encode_prompt("a"))))
    shown = re.sub(r"<script.*?</script>", "", dom, flags=re.S)
    assert "takes a longer prompt" in shown and "Mean surprise" not in shown
    assert ">Without a part<" not in shown and ">Neurons<" in shown
    (gradients,) = re.findall(r'<section id="gradients".*?</section>', shown, flags=re.S)
    assert "Of one token there is no loss, and no gradient" in gradients and "<table" not in gradients


# Where the last picture ends, on how many lines the names and shapes stand, and where tensors stand against their line.
MEASURE = """const most = (chosen, of) => Math.max(...[...document.querySelectorAll(chosen)].map(of));
document.body.dataset.ends = most("canvas", c => c.getBoundingClientRect().right);
document.body.dataset.lines = most(".value b", b => b.getClientRects().length);
const tops = ["td.made", "td.code"].map(cell => document.querySelector(".ran " + cell).getBoundingClientRect().top);
document.body.dataset.stands = tops[0] > tops[1] ? "below" : "beside";
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize(("width", "stands"), [(500, "below"), (1000, "beside")])
def test_the_tensors_of_a_traced_line_are_in_sight_and_their_shapes_on_one_line(tmp_path, width, stands):
    dom = drawn(tmp_path, page("trace", "modern").replace(END, MEASURE + END), width)
    (ends,) = re.findall(r'data-ends="([\d.]+)"', dom)
    assert 0 < float(ends) <= width and 'data-lines="1"' in dom and f'data-stands="{stands}"' in dom


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_tokens_are_shown_with_their_line_and_with_what_they_are(tmp_path):
    """An indentation stands at the beginning of its line, and bytes are said to be such where somebody points at them."""
    engine = engine_of("gpt2", context_length=64)
    data = look(engine, engine.encode_prompt("if a:\n  b\u00e9"))
    assert [token["text"] for token in data["tokens"][5:]] == ["\n", " ", " ", "b", "<c3>", "<a9>"]
    data["tokens"][5]["text"] = "\n  "  # as byte-pair encoding cuts it
    pointed = 'document.querySelectorAll("#prompt .prompt span")[9].dispatchEvent(new Event("focus"));'
    shown = drawn(tmp_path, render("inspect.html", data).replace(END, pointed + END))
    assert re.search('<span tabindex="0"[^>]*>\u23ce<br>\u00b7\u00b7</span>', shown)
    assert re.search(r'<div id="tip"[^>]*>&lt;c3&gt; \(id 195\): bytes of a part of a character; ', shown)


# Of inspect: how small labels of attention are, which captions stand nearer to the box before than to their own, which numbers
# below histograms break or leave their column, and of which scales the numbers touch.
LOOKS = """const all = chosen => [...document.querySelectorAll(chosen)], box = one => one.getBoundingClientRect();
const count = (chosen, is) => all(chosen).filter(is).length, gap = (above, below) => box(below).top - box(above).bottom;
document.body.dataset.least = Math.min(...all(".axes span").map(label => parseFloat(getComputedStyle(label).fontSize)));
document.body.dataset.far = count(".caption", one => {
  return gap(one, one.nextElementSibling) >= gap(one.previousElementSibling, one);
});
document.body.dataset.broken = count(".bars .mean, .bars .ends span", one => {
  return one.getClientRects().length > 1 || one.scrollWidth > box(one.parentElement).width + 1;
});
document.body.dataset.touching = count(".scale", one => {
  return [...one.querySelectorAll("span")].some((tick, i, ticks) => i && box(tick).left < box(ticks[i - 1]).right + 3);
});
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("architecture", ["gpt2", "ngram"])
def test_maps_have_scales_and_what_belongs_together_stands_together(tmp_path, width, architecture):
    dom = drawn(tmp_path, page("inspect", architecture).replace(END, LOOKS + END), width)
    for what in ("far", "broken", "touching"):
        assert f'data-{what}="0"' in dom
    (least,) = re.findall(r'data-least="([\d.]+)"', dom)
    assert float(least) >= 10
    scales = re.findall(r'<div class="scale"><i [^>]*></i><div>(.*?)</div></div>', dom)
    ticks = [re.findall("<span[^>]*>(.*?)</span>", scale) for scale in scales]
    # The prompt, attention, the lens, five of the residual stream, and positions where they have embeddings.
    assert len(ticks) == (9 if architecture == "gpt2" else 8)
    assert ["0 %", "6 %", "25 %", "56 %", "100 %"] in ticks and ["0 %", "50 %", "100 %"] in ticks
    said = dom.count('data-more="scroll, there is more at the right"')
    assert said > 5 if width == 500 else "at the right and below" not in dom
