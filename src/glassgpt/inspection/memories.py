"""The neurons that matter at the end of a prompt: what excites them (their keys), and what they write (their values).

Shapes: L n_layer, B batch, T positions, F mlp width, V vocab_size.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glassgpt.generate import Engine
from glassgpt.inspection.capture import seen
from glassgpt.inspection.neurons import highest, neuron_contributions, neuron_writes
from glassgpt.inspection.stream import is_sum, stages
from glassgpt.inspection.words import end_of, likeliest, token_text

NEURONS, KEYS, VALUES = 4, 4, 6
SHOWN_BEFORE = 24  # characters of a context, before the one that excites


def look_at_neurons(
    engine: Engine, found: Mapping[str, Tensor], tokens: Tensor, contexts: Tensor | None
) -> list[dict[str, Any]]:
    """Of each layer the neurons that write most for the token which the model expects next, or where the stream is no sum
    those that are furthest from 0 there; the strongest first. `found`: what `capture` has of the prompt, (T, ...) each;
    `tokens` (1, T). Keys are looked for in `contexts` (B, T), or in the prompt where there are none: where a neuron is
    highest, or in a gated MLP as far on that side of 0 on which it is at the end of the prompt."""
    model = engine.model
    gated = model.config.is_modern
    end, expected = found[stages(model)[-1]][-1], found["logits"][-1].argmax()
    read = tokens if contexts is None else contexts
    names = [f"block.{i}.neurons" for i in range(model.config.n_layer)]
    activations = [found[name][-1] for name in names]  # (F,) each
    adds = [
        neuron_contributions(model, i, activation, end, expected) if is_sum(model) else None
        for i, activation in enumerate(activations)
    ]
    choices = [
        (activation.abs() if written is None else written).topk(min(NEURONS, len(activation))).indices
        for activation, written in zip(activations, adds, strict=True)
    ]
    neurons = {name: found[name][None][..., chosen] for name, chosen in zip(names, choices, strict=True)}
    if contexts is not None:

        def keep(name: str, chosen: Tensor, activation: Tensor) -> None:
            neurons[name] = activation[..., chosen]

        with seen(model, {name: partial(keep, name, chosen) for name, chosen in zip(names, choices, strict=True)}):
            model.hidden(contexts)  # nobody needs its logits, which are many
    rows = []
    for i, (activation, written, chosen) in enumerate(zip(activations, adds, choices, strict=True)):
        # A gated neuron may be far below 0, and writes the opposite then: with its row of up_proj and its column of
        # down_proj turned round, the model is the same. GELU's are below 0 only where nothing excites them.
        sign = 1 - 2 * (activation[chosen] < 0).int() if gated else torch.ones_like(chosen)
        excited = highest(neurons[names[i]] * sign, KEYS)
        writes = neuron_writes(model, i, chosen, end if is_sum(model) else None).float() * sign[:, None]
        for n, neuron in enumerate(chosen.tolist()):
            keys = [
                {"before": end_of(engine, read[row, :position].tolist(), SHOWN_BEFORE),
                 "text": token_text(engine, int(read[row, position])), "activation": a * sign[n].item()}
                for a, row, position in zip(
                    excited.activation[n].tolist(), excited.row[n].tolist(), excited.position[n].tolist(), strict=True
                )
                if a > 0
            ]  # fmt: skip
            rows.append({
                "layer": i, "neuron": neuron, "activation": activation[neuron].item(),
                "against": not gated and activation[neuron].item() < 0,
                "adds": None if written is None else written[neuron].item(),
                "keys": keys, "values": [text for text, _ in likeliest(engine, writes[n], VALUES)],
            })  # fmt: skip
    return sorted(rows, key=lambda row: abs(row["activation"]) if row["adds"] is None else row["adds"], reverse=True)


def about_signs(neurons: list[dict[str, Any]]) -> str:
    """What it means that a neuron among these, of one model, is below 0; "" where none is."""
    if any(neuron["against"] for neuron in neurons):
        return (
            "A neuron below 0 is not excited, and writes a little against its tokens; its contexts are those where it is "
            "highest all the same."
        )
    if any(neuron["activation"] < 0 for neuron in neurons):
        return (
            "A neuron of this model is active far below 0 as well as far above, and writes the opposite there. Of one that "
            "is below 0 here, the contexts are those where it is furthest below, and the tokens those that it makes likelier."
        )
    return ""
