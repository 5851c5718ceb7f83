"""`glassgpt import`: a model from elsewhere becomes a checkpoint here."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from glassgpt.cli.flags import WholeNumber


def import_(
    source: Annotated[
        str,
        Parameter(
            help="a Hugging Face folder, a .pt file of nanoGPT, minGPT or the book, or a published name such as gpt2"
        ),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(help="folder of the checkpoint that is made")],
    n_head: Annotated[
        WholeNumber | None, Parameter(help="attention heads, where the file does not say (the book's, minGPT's)")
    ] = None,
) -> None:
    """Turn a model from elsewhere into a checkpoint here, bit for bit: to sample from, to fine-tune, to export again."""
    from glassgpt.cli.main import say
    from glassgpt.disk import as_argument
    from glassgpt.formats import import_model
    from glassgpt.model.size import count_parameters

    checkpoint = import_model(source, out, n_head=n_head)
    config = checkpoint.config
    kind = checkpoint.tokenizer().kind if checkpoint.has_tokenizer else "none"
    print(f"{source}: format {checkpoint.state['format']}, architecture {config.architecture}, tokenizer {kind}")
    print(
        f"{count_parameters(config).total:,} parameters: {config.n_layer} layers, {config.n_head} heads, "
        f"width {config.n_embd}, context {config.context_length:,}, vocabulary {config.vocab_size:,}"
    )
    where = as_argument(out)
    named = "" if kind != "none" else " --tokenizer KIND_OR_FILE"
    print(f"now in {where}; use it: glassgpt {checkpoint.verb} {where}{named}")
    if kind == "none" and (Path(source).parent / "meta.pkl").is_file():
        say(
            "the characters in meta.pkl are not read, since a pickle can run programs; if it is yours, write its stoi to a "
            "meta.json beside it with Python's pickle and json, and import again"
        )
