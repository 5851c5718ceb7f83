"""`glassgpt classify`: tell texts apart with a model that was trained on labels."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from glassgpt.cli.flags import Device, sources
from glassgpt.errors import DataError


def classify(
    run: Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")] = None,
    /,
    *,
    text: Annotated[
        tuple[str, ...],
        Parameter(
            help="a text; may be said several times; - for a text a line of standard input", allow_leading_hyphen=True
        ),
    ] = (),
    data: Annotated[
        tuple[str, ...],
        Parameter(
            help="files of texts, jsonl or csv a text a record; where they have labels, the model is judged by them"
        ),
    ] = (),
    text_field: Annotated[str, Parameter(help="the field of jsonl and csv files that holds the text [text]")] = "text",
    device: Device = "auto",
) -> None:
    """Tell texts apart with a model that was trained on labels: a line a text, with its label and how sure the model is.
    Where the files have labels: how many it gets right, and which it takes for which. With no text: the same of the texts
    that it was validated with. Takes the best checkpoint of the run.
    """
    from rich.console import Console

    from glassgpt.checkpoint import find_checkpoint
    from glassgpt.cli.confusion import confusion_of, confusion_table, require_known, validation_of
    from glassgpt.cli.main import STANDARD_INPUT, say
    from glassgpt.cli.progress import PreparationDisplay
    from glassgpt.data.prepare import part_of
    from glassgpt.generate import load_classifier

    folder = find_checkpoint(run, say)
    model = load_classifier(folder, device)
    console = Console(soft_wrap=True)
    if not text and not data:
        measured = validation_of(folder)
        console.print(f"{measured['accuracy']:.1%} of its validation texts right")
        console.print(confusion_table(model.labels, measured["confusion"]))
        return
    asked: list[str] = []
    judged: list[str] = []  # the labels of the first texts
    with PreparationDisplay() as display:
        if data:
            asked, judged = texts_and_labels(data, text_field, part_of(display.on_prepare, "reading the texts"))
            require_known(judged, model.labels)
        for one in text:
            asked += [line.strip() for line in sys.stdin if line.strip()] if one == STANDARD_INPUT else [one]
        report = part_of(display.on_prepare, "reading their labels") if data else None
        verdicts = list(model.classify(asked, report))
    if judged:
        confusion = confusion_of(judged, [verdict.label for verdict in verdicts], model.labels)
        console.print(f"{confusion.trace() / confusion.sum():.1%} of {len(judged):,} texts right")
        console.print(confusion_table(model.labels, confusion))
    for words, verdict in [*zip(asked, verdicts, strict=True)][len(judged) :]:
        print(f"{verdict.label}\t{verdict.probabilities[verdict.label]:.3f}\t{' '.join(words.split())}")


def texts_and_labels(
    data: Sequence[str], text_field: str, report: Callable[[float], None]
) -> tuple[list[str], list[str]]:
    """The texts of files, and their labels, where they have them. Raises DataError where they hold conversations."""
    from glassgpt.data import open_corpus

    with open_corpus(sources(data), text_field, report) as corpus:
        documents = list(corpus)
    if corpus.wanted.task == "conversations":
        raise DataError(f"{', '.join(data)} holds conversations, no texts to label; name a file of texts")
    return [document.text for document in documents], [d.label for d in documents if d.label is not None]
