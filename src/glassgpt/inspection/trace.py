"""The model's own source, and what each of its lines computed: made from the files that ran, so that it cannot drift."""

import ast
import base64
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glassgpt.generate import Engine
from glassgpt.inspection.figures import number
from glassgpt.inspection.words import BYTES, token_text
from glassgpt.model import LanguageModel

PACKAGE = LanguageModel.__module__.rpartition(".")[0]
MOST_TOKENS = 64
PICTURE_ROWS, PICTURE_COLUMNS = 24, 96


class Value(NamedTuple):
    """A tensor that a line has made: what it is called there, and what it was like."""

    name: str  # of the variable, or "returned"
    shape: tuple[int, ...]
    mean: float
    std: float
    least: float
    most: float
    picture: Tensor  # (rows, columns) at most (24, 96): of the first text, and of the first head, thinned out evenly


class LineRun(NamedTuple):
    """One time that a line ran."""

    block: int | None  # in which it ran, or which it called; None: before, behind or around all of them
    module: str  # whose code it is, by the name that the model has for it, or that of the one that called the function
    values: list[Value]


class TracedLine(NamedTuple):
    number: int  # in the file, from 1
    source: str
    runs: list[LineRun]  # each time that it ran, in order


def trace(model: LanguageModel, tokens: Tensor) -> dict[Path, list[TracedLine]]:
    """Every line of the files that `model` is written in, its own first, with the tensors that it made on the way from
    `tokens` (B, T) to logits. What all architectures share (language_model.py, attention.py, cache.py) is not shown."""
    files = {Path(inspect.getsourcefile(kind) or ""): None for kind in _kinds(model)}
    sources = {str(path): path.read_text(encoding="utf-8") for path in files}
    statements = {
        path: {line: node for node in _statements(ast.parse(source)) for line in _lines_of(node)}
        for path, source in sources.items()
    }
    seen: Seen = defaultdict(list)
    with _watching(model, tokens.shape[1], statements, seen), torch.inference_mode():
        model(tokens)
    return {
        Path(path): [TracedLine(n, line, seen[path, n]) for n, line in enumerate(source.splitlines(), start=1)]
        for path, source in sources.items()
    }


def traced(engine: Engine, prompt: str) -> dict[str, Any]:
    """`trace` of the prompt's last tokens, at most 64 of them, as plain numbers for the page."""
    given = engine.encode_prompt(prompt)
    tokens = given[:, -min(MOST_TOKENS, engine.model.config.context_length) :]
    files = [
        {
            "name": path.name,
            "lines": [
                {
                    "source": line.source,
                    "runs": [
                        {"block": run.block, "module": run.module, "values": [_plain(v) for v in run.values]}
                        for run in line.runs
                    ],
                }
                for line in lines
            ],
        }
        for path, lines in trace(engine.model, tokens).items()
    ]
    words = " ".join(f"[{token_text(engine, id)}]" for id in tokens[0].tolist()).replace("\n", "\N{RETURN SYMBOL}")
    count, cut = (
        tokens.shape[1],
        f", the last of the prompt's {given.shape[1]:,}" if given.shape[1] > tokens.shape[1] else "",
    )
    about = (
        f"Every line of the file that computes this model, with the tensors that it made of {count} "
        f"token{'s' * (count > 1)}{cut}: {words}. A picture shows the first text and the first head: rows are positions, "
        "columns features; blue above zero, red below."
    ) + (" <e2> is a byte of a character that several tokens make up." if BYTES.search(words) else "")
    return {"about": about, "blocks": engine.model.config.n_layer, "files": files}


def _plain(value: Value) -> dict[str, Any]:
    drawn = value.picture.nan_to_num(0.0, 0.0, 0.0)  # what is not finite is left out
    cells = (128 + 127 * drawn / drawn.abs().max().clamp(min=1e-30)).round().to(torch.uint8)
    numbers = {name: number(getattr(value, name)) for name in ("mean", "std", "least", "most")}
    return {
        "name": value.name, "shape": value.shape, "grid": cells.shape,
        "picture": base64.b64encode(cells.numpy().tobytes()).decode(),
    } | numbers  # fmt: skip


def _kinds(model: LanguageModel) -> Iterator[type]:
    """The classes of the model and of what it is made of, theirs and what they inherit, but not torch's."""
    for module in model.modules():
        for kind in type(module).mro():
            if kind.__module__.startswith(PACKAGE) and kind is not LanguageModel:
                yield kind


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Those that make something, in the order in which the inner ones come last."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)):
            yield node


def _lines_of(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _names(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)]


Seen = defaultdict[tuple[str, int], list[LineRun]]  # by file and line


@contextmanager
def _watching(
    model: LanguageModel, length: int, statements: dict[str, dict[int, ast.stmt]], seen: Seen
) -> Iterator[None]:
    """Python says before each line that it is about to run: whatever the line before it has assigned is there by then."""
    running: dict[FrameType, tuple[ast.stmt, int]] = {}  # with the number of blocks that were done when it began
    names = {id(module): name for name, module in model.named_modules()}
    within: int | None = None
    done = 0

    def enter(block: int) -> None:
        nonlocal within
        within = block

    def leave() -> None:
        nonlocal within, done
        within, done = None, done + 1

    def finish(frame: FrameType, returned: Any = None) -> None:
        node, before = running.pop(frame, (None, done))
        if node is None:
            return
        if isinstance(node, ast.Return):
            values = _values("returned", returned, length)
        else:
            values = [value for name in _names(node) for value in _values(name, frame.f_locals.get(name), length)]
        if values:
            block = done - 1 if done == before + 1 else within
            seen[frame.f_code.co_filename, node.lineno].append(LineRun(block, _module(frame, names), values))

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            node = statements[frame.f_code.co_filename].get(frame.f_lineno)
            if node is not running.get(frame, (None,))[0]:  # else a further line of the same statement
                finish(frame)
                if node is not None:
                    running[frame] = node, done
        elif event == "return":
            finish(frame, argument)
        return inside

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return inside if frame.f_code.co_filename in statements else None

    hooks = [
        hook
        for i, block in enumerate(model.blocks)
        for hook in (
            block.register_forward_pre_hook(lambda *_, i=i: enter(i)),
            block.register_forward_hook(lambda *_: leave()),
        )
    ]
    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
        for hook in hooks:
            hook.remove()


def _module(frame: FrameType | None, names: dict[int, str]) -> str:
    """The module whose method this is, or called this; "" where it is the model itself."""
    while frame is not None:
        if (name := names.get(id(frame.f_locals.get("self")))) is not None:
            return name
        frame = frame.f_back
    return ""


def _values(name: str, value: Any, length: int) -> list[Value]:
    """The tensors in it: itself, or the members of a tuple. `length`: how many positions there are."""
    if isinstance(value, tuple):
        return [one for i, member in enumerate(value) for one in _values(f"{name}[{i}]", member, length)]
    if not isinstance(value, Tensor) or value.numel() == 0:
        return []
    numbers = value.detach().cpu().double()  # an Apple GPU has no float64
    std = numbers.std(correction=0).item()
    return [
        Value(
            name,
            tuple(value.shape),
            numbers.mean().item(),
            std,
            numbers.min().item(),
            numbers.max().item(),
            _picture(value.detach().cpu(), length),
        )
    ]


def _picture(value: Tensor, length: int) -> Tensor:
    while value.dim() > 2:
        # Before heads change places with positions, (B, T, H, D), the first head is not what comes first.
        value = value[:, 0] if value.dim() == 3 and value.shape[0] == length != value.shape[1] else value[0]
    rows = value.reshape(1, -1) if value.dim() < 2 else value
    down, across = (-(-size // most) for size, most in zip(rows.shape, (PICTURE_ROWS, PICTURE_COLUMNS), strict=True))
    return rows[::down, ::across].float().clone()
