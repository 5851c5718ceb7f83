"""A page that is complete in itself: the numbers, and the script that draws them, in one file."""

import json
import re
from importlib.resources import files
from typing import Any

INCLUDED = re.compile(r"\{\{([a-z]+\.(?:css|js))\}\}")  # a file of pages/: what several share, and the parts of one


def render(template: str, data: Any) -> str:
    """The page `template` (a file of `pages/`) with `data` in it. Text stays text whatever it looks like: in the page it
    is JSON in which no tag can end or begin, and it is shown as text content only."""
    page = INCLUDED.sub(lambda match: _file(match[1]), _file(template))
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # in ASCII: names of files need be no Unicode
    return page.replace("{{DATA}}", text.replace("<", "\\u003c"))


def _file(name: str) -> str:
    return files(__package__).joinpath("pages", name).read_text(encoding="utf-8")
