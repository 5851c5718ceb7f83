"""`glassgpt prepare`: text to token files."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from glassgpt.cli.flags import WholeNumber, sources
from glassgpt.errors import ConfigError


def prepare(
    *text: Annotated[
        str, Parameter(help="files, folders, globs, - (standard input), or the names python and shakespeare")
    ],
    out: Annotated[Path | None, Parameter(help="the new folder; data/NAME where nothing is said")] = None,
    tokenizer: Annotated[str, Parameter(help="char, byte, bpe, gpt2, or the path of a tokenizer.json [bpe]")] = "bpe",
    vocab_size: Annotated[WholeNumber, Parameter(help="size of a bpe vocabulary; 0: 4096 [0]")] = 0,
    text_field: Annotated[str, Parameter(help="the field of jsonl and csv files that holds the text [text]")] = "text",
    task: Annotated[
        Literal["auto", "text", "conversations", "labels"],
        Parameter(help="what is to be learned; auto: by the fields of the records [auto]"),
    ] = "auto",
) -> None:
    """Turn text into a folder of token files that `glassgpt train FOLDER` takes, and say what is in it."""
    if not text:
        raise ConfigError("prepare needs text: name files, folders or globs, or python for the built-in corpus")
    from glassgpt.cli.progress import PreparationDisplay
    from glassgpt.data import path_as_source, summarize, text_name
    from glassgpt.data import prepare as prepare_folder
    from glassgpt.tokenizer import named_tokenizer

    named = sources(text)
    target = out if out is not None else Path("data") / text_name(named)
    with PreparationDisplay() as display:
        data = prepare_folder(
            named, target, named_tokenizer(tokenizer), vocab_size or None, text_field, display.on_prepare, task
        )
    for line in summarize(data).lines():
        print(line)
    print(f"train on it with: glassgpt train {path_as_source(target)}")
