"""`inspect` and `trace` as a user meets them."""

TRAIN = ["train", "song.txt", "--tokenizer", "char", "--context-length", 16, "--n-layer", 2, "--n-head", 2, "--n-embd", 16,
         "--batch-size", 4, "--warmup-steps", 2, "--precision", "float32", "--threads", 1, "--max-steps", 5]  # fmt: skip


def test_a_model_is_looked_into(folder, glassgpt_here):
    assert glassgpt_here(*TRAIN)[0] == 0
    code, out, err = glassgpt_here("inspect", "--prompt", "row your boat")
    assert code == 0, err
    assert out.startswith("row your boat\n") and "written to inspect.html: open it in a browser" in out
    assert "what surprised it most" in out and "layer 1, mlp" in out and "leaving out each part" in err
    page = (folder / "inspect.html").read_text("utf-8")
    assert '"text":"r"' in page and "</html>" in page
    assert '"probability":' in page
    code, out, err = glassgpt_here(
        "inspect", "runs/song-1/checkpoints/step-00000005", "--out", "other.html"
    )  # it writes the prompt itself
    assert code == 0 and (folder / "other.html").exists(), err
    assert glassgpt_here("inspect", "--out", "other.html")[0] == 0  # a page of ours is replaced

    code, out, err = glassgpt_here("trace", "--prompt", "boat")
    assert code == 0 and "written to trace.html" in out, err
    assert "def rotate" in (folder / "trace.html").read_text("utf-8")


def test_what_cannot_be_looked_at_is_said_in_one_line(folder, glassgpt_here, refused_here):
    assert glassgpt_here(*TRAIN)[0] == 0
    for verb in ("inspect", "trace"):
        assert "'Z'" in refused_here(verb, "--prompt", "row Z")
        (folder / "notes.html").write_text("mine")
        assert f"notes.html exists and is no page of glassgpt {verb}; choose another --out" in refused_here(
            verb, "--out", "notes.html"
        )
        assert (folder / "notes.html").read_text() == "mine"
        assert "--out runs is a folder; name a file, such as" in refused_here(verb, "--out", "runs")
    assert "a prompt of one token has nothing to look back at" in refused_here("inspect", "--prompt", "r")
    assert list(folder.glob("*.html")) == [folder / "notes.html"]
