"""`glassgpt sample`: let a trained model write."""

from typing import Annotated

from cyclopts import Parameter

from glassgpt.cli.flags import Device, RunToRead, Temperature, TokenizerOfModel, TopK, TopP, WholeNumber, prompt_text


def sample(
    run: RunToRead = None,
    /,
    *,
    prompt: Annotated[
        str, Parameter(help="text to go on from; none: begin a new text", allow_leading_hyphen=True)
    ] = "",
    max_new_tokens: Annotated[WholeNumber, Parameter(help="tokens to write; fewer where the text ends [500]")] = 500,
    temperature: Temperature = 0.8,
    top_k: TopK = 200,
    top_p: TopP = 1.0,
    seed: Annotated[WholeNumber, Parameter(help="another seed, another text [1337]")] = 1337,
    num_samples: Annotated[WholeNumber, Parameter(help="texts to write [1]")] = 1,
    tokenizer: TokenizerOfModel = None,
    device: Device = "auto",
) -> None:
    """Let a trained model write. Takes the best checkpoint of the run. Several texts are written side by side: the first
    appears as it is written, the others once all are done.

    The model sees its last context_length tokens: a longer prompt is cut at its beginning, a longer text goes on.
    """
    from glassgpt.cli.main import say
    from glassgpt.generate import load_run

    settings = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed,
    }  # fmt: skip
    engine = load_run(run, device, say, tokenizer)
    prompt = prompt_text(prompt)
    pieces = engine.stream_many(prompt, num_samples, **settings)
    steps = [next(pieces)]  # a prompt that cannot be read fails here, before anything is printed
    print(heading(1, num_samples) + prompt + steps[0][0], end="", flush=True)
    for step in pieces:
        print(step[0], end="", flush=True)
        steps.append(step)
    print()
    for number, completion in enumerate([*zip(*steps, strict=True)][1:], 2):
        print(heading(number, num_samples) + prompt + "".join(completion))


def heading(number: int, of: int) -> str:
    return f"--- {number} of {of} ---\n" if of > 1 else ""
