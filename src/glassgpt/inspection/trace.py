"""The model's own source, and what each of its lines computed: made from the files that ran, so that it cannot drift."""

import ast
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glassgpt.inspection.capture import evaluated, require_tokens
from glassgpt.model import LanguageModel
from glassgpt.model.attention import explicit_attention

PACKAGE = LanguageModel.__module__.rpartition(".")[0]
PICTURE_ROWS, PICTURE_COLUMNS = 24, 96


class Value(NamedTuple):
    """A tensor that a line has made: what it is called there, and what it was like."""

    name: str  # of the variable, "returned", or "from" a module that the line called on its way
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
    call: str  # of the function that the line is in, as it is written: "rotate(q, *angles)"; "" where torch called it
    values: list[Value]


class TracedLine(NamedTuple):
    number: int  # in the file, from 1
    source: str
    runs: list[LineRun]  # each time that it ran, in order


class Trace(NamedTuple):
    """`files`: every line of those that the model is written in, its own first, attention.py last. `apart`: by how much
    attention as it ran and as it was spelled out beside that differ at most; None where it ran spelled out."""

    files: dict[Path, list[TracedLine]]
    apart: float | None


def trace(model: LanguageModel, tokens: Tensor) -> Trace:
    """The lines that compute `model`, in evaluation mode, with the tensors that they made on the way from `tokens` (B, T) to
    logits. A fused kernel never writes scores, mask and weights: where one runs, `explicit_attention` is run beside it on the
    same queries, keys and values, and traced too. What is left out is language_model.py and cache.py. The model runs
    twice, the first time on another number of tokens: which axes are positions shows in what changes.
    Raises ConfigError where tokens are no (B, T) of ids."""
    require_tokens(model, tokens)
    modules = (sys.modules[part.__module__] for part in (*_kinds(model), explicit_attention))
    files = {Path(inspect.getsourcefile(module) or ""): None for module in modules}
    sources = {str(path): path.read_text(encoding="utf-8") for path in files}
    seen: Seen = defaultdict(list)
    fewer: Seen = defaultdict(list)
    for read, into in ((_of_another_length(model, tokens), fewer), (tokens, seen)):
        watching = _watching(model, sources, into, fewer)
        with evaluated(model), watching, SpelledOutBeside() as beside, torch.inference_mode():
            model(read)
    lines = {
        Path(path): [TracedLine(n, line, seen[path, n]) for n, line in enumerate(source.splitlines(), start=1)]
        for path, source in sources.items()
    }
    return Trace(lines, beside.apart)


def _of_another_length(model: LanguageModel, tokens: Tensor) -> Tensor:
    """One token fewer, or two where there is one; a context of one token has no other length."""
    return tokens[:, :-1] if tokens.shape[1] > 1 else tokens.repeat(1, min(2, model.config.context_length))


class SpelledOutBeside(TorchFunctionMode):
    """While this lasts, each fused attention is computed a second time, spelled out."""

    apart: float | None = None

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is F.scaled_dot_product_attention:
            difference = (explicit_attention(*args[:3]) - result).abs().nan_to_num(0.0)
            self.apart = max(self.apart or 0.0, difference.max().item())
        return result


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


class Running(NamedTuple):
    """A statement that is being run."""

    node: ast.stmt
    before: int  # blocks that were done when it began
    taken: list[tuple[str, Any]]  # what modules have given it, by their own names


@contextmanager
def _watching(model: LanguageModel, sources: dict[str, str], seen: Seen, fewer: Seen) -> Iterator[None]:
    """Python says before each line that it is about to run: whatever the line before it has assigned is there by then.
    `fewer`: the same of another number of tokens, as far as it is known."""
    running: dict[FrameType, Running] = {}
    statements = {
        path: {line: node for node in _statements(ast.parse(source)) for line in _lines_of(node)}
        for path, source in sources.items()
    }
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
        if frame not in running:
            return
        node, before, taken = running.pop(frame)
        if isinstance(node, ast.Return):
            made = [("returned", returned)]
        else:
            made = [(name, frame.f_locals.get(name)) for name in _names(node)]
        on_the_way = [
            (f"from {name}", output) for name, output in taken if all(output is not value for _, value in made)
        ]
        place = frame.f_code.co_filename, node.lineno
        elsewhere: list[tuple[int, ...] | None] = [
            value.shape for run in fewer[place][len(seen[place]) :][:1] for value in run.values
        ]
        tensors = [pair for name, one in (*on_the_way, *made) for pair in _tensors(name, one)]
        elsewhere += [None] * len(tensors)
        values = [_value(*pair, shape) for pair, shape in zip(tensors, elsewhere, strict=False)]
        if values:
            block = done - 1 if done == before + 1 else within
            run = LineRun(block, _module(frame, names), _call_of(frame, sources), values)
            seen[place].append(run)

    def take(module: nn.Module, output: Any) -> None:
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame not in running:
            frame = frame.f_back
        if frame is not None:
            taken = running[frame].taken
            if all(output is not one for _, one in taken):  # dropout hands on what it was given
                taken.append((names[id(module)].rpartition(".")[2], output))

    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            node = statements[frame.f_code.co_filename].get(frame.f_lineno)
            if frame not in running or node is not running[frame].node:  # else a further line of the same statement
                finish(frame)
                if node is not None:
                    running[frame] = Running(node, done, [])
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
    hooks += [
        module.register_forward_hook(lambda module, inputs, output: take(module, output)) for module in model.modules()
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


def _call_of(frame: FrameType, sources: dict[str, str]) -> str:
    """As it is written in the file that calls this function, one of `sources`."""
    caller = frame.f_back
    if caller is None or caller.f_code.co_filename not in sources:
        return ""
    first, last, begin, end = next(islice(caller.f_code.co_positions(), caller.f_lasti // 2, None))
    if first is None or begin is None:  # a Python that was told to keep none
        return ""
    call = ast.Constant(None, lineno=first, end_lineno=last, col_offset=begin, end_col_offset=end)
    return " ".join((ast.get_source_segment(sources[caller.f_code.co_filename], call) or "").split())


def _tensors(name: str, value: Any) -> list[tuple[str, Tensor]]:
    """Those in it: itself, or the members of a tuple."""
    if isinstance(value, tuple):
        return [pair for i, member in enumerate(value) for pair in _tensors(f"{name}[{i}]", member)]
    return [(name, value.detach().cpu())] if isinstance(value, Tensor) and value.numel() else []


def _value(name: str, tensor: Tensor, elsewhere: tuple[int, ...] | None) -> Value:
    """`elsewhere`: the shape that it has where there is another number of tokens."""
    numbers = tensor.double()
    return Value(
        name,
        tuple(tensor.shape),
        numbers.mean().item(),
        numbers.std(correction=0).item(),
        numbers.min().item(),
        numbers.max().item(),
        _picture(tensor, elsewhere),
    )


def _picture(tensor: Tensor, elsewhere: tuple[int, ...] | None) -> Tensor:
    """Rows are positions, wherever they stand before the last axis, or the last axis but one where none of these is."""
    if tensor.dim() < 2:
        rows = tensor.reshape(1, -1)
    else:
        before_last = zip(tensor.shape[:-1], (elsewhere or tensor.shape)[:-1], strict=False)
        positions = next((axis for axis, (size, other) in enumerate(before_last) if size != other), tensor.dim() - 2)
        rows = tensor.movedim(positions, -2)[(0,) * (tensor.dim() - 2)]
    down, across = (-(-size // most) for size, most in zip(rows.shape, (PICTURE_ROWS, PICTURE_COLUMNS), strict=True))
    return rows[::down, ::across].float().clone()
