"""Published names: downloaded once, found without a network afterwards. A server on this machine plays the hub."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from glassgpt.checkpoint import load_tensors
from glassgpt.errors import CheckpointError, MachineError
from glassgpt.formats import import_model

from .conftest import hf_gpt2

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The published model `glass/toy`, with a README beside it that nobody needs; what was asked for is in `.asked`."""
    hf_gpt2().save_pretrained("published")
    Path("published/README.md").write_text("a card")
    Path("published/pytorch_model.bin").write_bytes(b"a pickle")
    files = {file.name: file.read_bytes() for file in Path("published").iterdir()}
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if path == "/api/models/glass/toy/revision/main":
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                self.answer(json.dumps({"id": "glass/toy", "sha": COMMIT, "siblings": siblings}).encode())
            elif path == "/api/models/glass/toy/tree/" + COMMIT:
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
                self.answer(json.dumps(tree).encode())
            elif path.startswith(f"/glass/toy/resolve/{COMMIT}/") and path.rpartition("/")[2] in files:
                self.answer(files[path.rpartition("/")[2]])
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - http.server's names

        def answer(self, content):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *details):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    server.asked = asked
    yield server
    server.shutdown()
    server.server_close()


def test_a_name_is_downloaded_once_and_then_found_without_a_network(hub, monkeypatch):
    first = import_model("glass/toy", Path("first")).weights()
    assert not any("README" in path or "pytorch_model" in path for path in hub.asked)  # only what is needed
    hub.shutdown()
    hub.server_close()
    again = import_model("glass/toy", Path("again")).weights()
    assert all(again[name].equal(first[name]) for name in first) and first.keys() == again.keys()
    theirs = load_tensors(Path("published/model.safetensors"))
    assert again["wte.weight"].equal(theirs["transformer.wte.weight"])


def test_a_name_that_the_hub_does_not_know(hub):
    with pytest.raises(CheckpointError, match="glass/nothing is neither a file or folder that is there nor a model"):
        import_model("glass/nothing", Path("ours"))


def test_without_a_network_a_name_that_was_never_downloaded_says_both_ways(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = (
        "gpt2 is no file or folder here, not in the hub's cache, and the hub cannot be reached; connect .* or pass a"
    )
    with pytest.raises(MachineError, match=message):
        import_model("gpt2", Path("ours"))
    assert not Path("ours").exists()
