"""The verbs, and how whatever goes wrong becomes one line and an exit code."""

import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

import glassgpt
from glassgpt.config.changes import why_not_changeable
from glassgpt.config.names import FOREIGN_NAMES, suggestion
from glassgpt.config.schema import field_name
from glassgpt.disk import is_full
from glassgpt.errors import GlassError, is_out_of_memory

# A verb is one file and one line here: its function, and the sentence that `glassgpt --help` shows without loading it.
VERBS = {
    "train": ("glassgpt.cli.train:train", "Train a model on text; with no argument, on Python's standard library."),
    "resume": ("glassgpt.cli.resume:resume", "Go on with a run that was stopped or killed."),
    "sample": ("glassgpt.cli.sample:sample", "Let a trained model write."),
    "chat": ("glassgpt.cli.chat:chat", "Talk with a model that was trained on conversations."),
    "classify": ("glassgpt.cli.classify:classify", "Tell texts apart with a model that was trained on labels."),
    "inspect": (
        "glassgpt.cli.inspect:inspect",
        "Look inside a model: attention, residual stream, what each part is for.",
    ),
    "plan": ("glassgpt.cli.plan:plan", "What a model is made of, and what training it will take."),
    "trace": ("glassgpt.cli.trace:trace", "Read the model's source, each line beside what it computes."),
    "report": ("glassgpt.cli.report:report", "A page of a run: figures, curves, samples, settings, what it found."),
    "compare": ("glassgpt.cli.compare:compare", "A page of several runs side by side, with what differs in them."),
    "import": (
        "glassgpt.cli.import_:import_",
        "Bring in a model from elsewhere: Hugging Face, nanoGPT, minGPT, the book.",
    ),
    "merge": ("glassgpt.cli.merge:merge", "Fold the adapters of a --lora run into its weights."),
    "export": ("glassgpt.cli.export:export", "Write a trained model in another program's format."),
    "prepare": ("glassgpt.cli.prepare:prepare", "Turn text into token files, and say what is in them."),
    "verify": ("glassgpt.cli.verify:verify", "Check that every checkpoint of a run is still what was written."),
    "doctor": ("glassgpt.cli.doctor:doctor", "What a bug report needs, and one training step to see that all is well."),
}

LONGEST_LINE = 1000
# cyclopts takes a lone dash for an option; here it is standard input, under a name that no shell passes on.
STANDARD_INPUT = "\N{SYMBOL FOR NULL}"


def build_app(verb: str | None = None) -> App:
    """The command. `verb` is the one that will run: its own text is its help, of the others the sentences are."""
    app = App(
        name="glassgpt",
        help="The GPT you can see through: train it, let it write, look inside.",
        version=glassgpt.__version__,
        default_parameter=Parameter(show_default=False, negative_iterable=()),
        suppress_keyboard_interrupt=False,
    )
    for name, (place, sentence) in VERBS.items():
        if name == verb:
            app.command(place, name=name)
        else:
            app.command(place, name=name, help=sentence)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and leave the process: 0 done, 1 the run failed, 2 bad usage, config or data, 128 + signal."""
    tokens = [STANDARD_INPUT if token == "-" else token for token in (sys.argv[1:] if arguments is None else arguments)]
    # Threads of GNU OpenMP that wait for each other spin, and on a machine that does anything else at the same time they
    # spin most of it away: a training step took up to 60 times as long. Read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if sys.stdin is None:  # closed by the shell: <&-
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - it is that until the process ends
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # the tokenizer says what is no text
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a question mark for what this terminal cannot show, not a traceback
    try:
        build_app(tokens[0] if tokens else None)(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
        if sys.stdout is not None:  # closed by the shell: >&-
            sys.stdout.flush()
    except CycloptsError as error:
        fail(explain(error, tokens), 2)
    except GlassError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C", 130)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fail("out of memory: lower --batch-size, --micro-batch-size or --context-length, or close other programs", 1)
    except OSError as error:
        fail(what_failed(error), 1)
    sys.exit(0)


def say(line: str) -> None:
    """A line that is no result, where results go on to standard output."""
    print(f"glassgpt: {line}", file=sys.stderr)


def fail(message: str, code: int) -> NoReturn:
    line = " ".join(message.split())
    if (
        len(line) > LONGEST_LINE
    ):  # a file may hold a word of any length, which the message quotes; what to do stands last
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"
    with suppress(OSError):  # where nothing more can be said, the exit code still tells
        print(f"glassgpt: {line}", file=sys.stderr)
    sys.exit(code)


def what_failed(error: OSError) -> str:
    why = error.strerror or str(error)
    if error.filename:
        return f"{why}: {error.filename}"
    if is_full(error):  # of every other file it says which one it was (DiskError)
        return f"standard output could not be written ({why}); send it where there is room"
    return why


def explain(error: CycloptsError, tokens: Sequence[str]) -> str:
    """cyclopts' own words, with a suggestion that knows the other schools' names."""
    message = str(error).rstrip(".")
    verb = f"{tokens[0]} " if tokens and tokens[0] in VERBS else ""
    if message.startswith("Unknown command"):
        there = f"there are: {', '.join(VERBS)}"
        if tokens[0].startswith("-"):
            return (
                f"{tokens[0]} stands before the command; options come after it: glassgpt COMMAND {tokens[0]}; {there}"
            )
        return f"there is no command {tokens[0]!r}{suggestion(tokens[0], VERBS)}; {there}"
    unknown = re.match(r'Unknown option: "?(--?[\w-]+)', message)
    if unknown:
        name = field_name(unknown[1].lstrip("-").replace("-", "_"))
        if verb == "resume " and (why := why_not_changeable(name)):
            return why
        flags, alone = options(verb)
        hint = as_flag(suggestion(unknown[1], flags))
        meant = "text" if FOREIGN_NAMES.get(name, name) == "data" else name
        if meant in alone:
            hint = f"; {meant.upper()} stands alone: glassgpt {verb}{meant.upper()}"
        return f"{unknown[1]} is not an option{hint}; see glassgpt {verb}--help"
    few = re.search(r"parameter (--[\w-]+) requires (\d+) positional arguments. Only got (\d+)", message)
    if few:
        return f"{few[1]} takes {few[2]} arguments, it got {few[3]}; see glassgpt {verb}--help"
    surplus = re.match(r"Unused Tokens: \['?(.*?)'?[,\]]", message)
    if surplus:
        hint = "; it reads no text, and a run's settings are --config RUN/config.toml" if verb == "plan " else ""
        return f"{surplus[1]!r} is one argument too many{hint}; see glassgpt {verb}--help"
    return message


def options(verb: str) -> tuple[list[str], list[str]]:
    """The names of a verb's options, and of what stands without one."""
    place = VERBS[verb.strip()][0] if verb else "glassgpt.cli.train:train"
    module, _, function = place.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters.values()
    flags = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return flags, [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]


def as_flag(hint: str) -> str:
    """'; here it is called context_length' -> '; here it is called --context-length'."""
    return re.sub(r"(\w+)(\??)$", lambda match: "--" + match[1].replace("_", "-") + match[2], hint) if hint else ""
