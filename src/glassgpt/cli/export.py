"""`glassgpt export`: a checkpoint for other programs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def export(
    run: Annotated[Path | None, Parameter(help="a run or one checkpoint; the newest run where nothing is said")] = None,
    /,
    *,
    to: Annotated[
        str,
        Parameter(help="huggingface: a folder that transformers and its kin open; peft: the adapters of a --lora run"),
    ] = "huggingface",
    out: Annotated[Path, Parameter(help="folder that is made")],
) -> None:
    """Write a trained model in another program's format. Takes the best checkpoint of the run."""
    from glassgpt.cli.main import say
    from glassgpt.formats import export_model
    from glassgpt.model.size import count_parameters

    checkpoint = export_model(run, out, to=to, report=say)
    adapters = sum(tensor.numel() for tensor in checkpoint.weights().values()) if to == "peft" else 0
    numbers = f"{adapters:,} in adapters" if adapters else f"{count_parameters(checkpoint.config).total:,} parameters"
    print(f"{checkpoint.folder}, {numbers}, written to {out}:")
    for file in sorted(out.iterdir()):
        print(f"  {file.name:<24} {file.stat().st_size:>14,} bytes")
