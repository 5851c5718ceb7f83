"""The two texts that have names: `python`, which every machine has, and `shakespeare`, on which everybody compares."""

import hashlib
import sysconfig
import urllib.request
from http.client import HTTPException
from pathlib import Path

from glassgpt.config.cache_folder import cache_folder
from glassgpt.disk import replace_file
from glassgpt.errors import DataError

BUILTIN_NAMES = ("python", "shakespeare")

# Tests are another kind of text; installed packages differ from machine to machine; the tables of `encodings` repeat
# each other, so that any split would leak. Measured on 3.11: of what remains, 6 % of the longer lines stand in a second
# file too, licences and near twins such as wave and aifc, 18 KB at the most: not worth more rules.
PYTHON_FOLDERS_LEFT_OUT = {"test", "tests", "idle_test", "encodings", "site-packages", "dist-packages"}
PYTHON_BUILD_RECORD = "_sysconfigdata"  # written when this interpreter was built: another text on every machine

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def standard_library() -> Path:
    """The folder of the running interpreter's standard library, also from inside a virtual environment."""
    folder = Path(sysconfig.get_path("stdlib"))
    if not (folder / "os.py").is_file():
        raise DataError(
            f"the corpus `python` needs the standard library as source, and {folder} has none; name a text of your own"
        )
    return folder


def is_python_corpus(relative: str) -> bool:
    """Whether this file belongs to the corpus `python`, given that its folders do (see PYTHON_FOLDERS_LEFT_OUT)."""
    return relative.endswith(".py") and not relative.startswith(PYTHON_BUILD_RECORD)


def shakespeare_path() -> Path:
    """tinyshakespeare in the cache, downloaded at the first call. Raises DataError without a network."""
    path = cache_folder() / "tinyshakespeare.txt"
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHAKESPEARE_SHA256:
        return path
    local = "download it by other means and pass the file: glassgpt train PATH/TO/input.txt"
    try:
        with urllib.request.urlopen(SHAKESPEARE_URL, timeout=30) as answer:
            text: bytes = answer.read(4 << 20)
    except (OSError, HTTPException) as problem:  # a connection that breaks off is one or the other
        raise DataError(f"{SHAKESPEARE_URL} cannot be downloaded ({problem}); {local}") from None
    if hashlib.sha256(text).hexdigest() != SHAKESPEARE_SHA256:
        raise DataError(f"{SHAKESPEARE_URL} sent something else than tinyshakespeare (its sha256 differs); {local}")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text, shared=True, elsewhere="name a folder elsewhere in GLASSGPT_CACHE")
    return path
