"""The lessons as notebooks: each `# %%` becomes a cell, each `# %% [markdown]` a page of text.

    python lessons/as_notebooks.py       writes notebooks/01_configuration.ipynb ..., over those that are there

Editors that know `# %%` (VS Code, PyCharm, Spyder, jupytext) open the lessons themselves as notebooks.
"""

import json
import re
from pathlib import Path
from typing import Any


def cells(source: str) -> list[dict[str, Any]]:
    found = []
    for piece in re.split(r"^# %%", source, flags=re.M)[1:]:
        heading, _, body = piece.partition("\n")
        if "[markdown]" in heading:
            text = re.sub(r"^# ?", "", body.strip(), flags=re.M)
            found.append({"cell_type": "markdown", "metadata": {}, "source": text})
        else:
            found.append(
                {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": body.strip()}
            )
    return [cell | {"id": f"cell-{number}"} for number, cell in enumerate(found)]


def main() -> None:
    folder = Path("notebooks")
    folder.mkdir(exist_ok=True)
    for lesson in sorted(Path(__file__).parent.glob("[0-9]*.py")):
        notebook = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "cells": cells(lesson.read_text(encoding="utf-8")),
        }
        target = folder / f"{lesson.stem}.ipynb"
        target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(target)


if __name__ == "__main__":
    main()
