"""A page that is complete in itself: the numbers, and the script that draws them, in one file."""

import json
from importlib.resources import files
from typing import Any


def render(template: str, data: Any) -> str:
    """The page `template` (a file beside this one) with `data` in it. Text stays text whatever it looks like: in the page it
    is JSON in which no tag can end or begin, and it is shown as text content only."""
    page = files(__package__).joinpath(template).read_text(encoding="utf-8")
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return page.replace(
        "{{DATA}}", text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )
