"""The neurons that matter at the end of a prompt: what excites them (their keys), and what they write (their values).

Shapes: L n_layer, B batch, T positions, F mlp width, V vocab_size.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from glassgpt.generate import Engine
from glassgpt.inspection.capture import edited
from glassgpt.inspection.neurons import highest, neuron_contributions, neuron_writes
from glassgpt.inspection.stream import is_sum, stages
from glassgpt.inspection.words import likeliest, token_text

NEURONS, KEYS, VALUES = 4, 4, 6
SHOWN_BEFORE = 24  # tokens and characters of a context, before the one that excites


def look_at_neurons(
    engine: Engine, found: Mapping[str, Tensor], tokens: Tensor, contexts: Tensor | None
) -> list[dict[str, Any]]:
    """Of each layer the neurons that write most for the token which the model expects next, or where the stream is no sum
    those that are furthest from 0 there; the strongest first. `found`: what `capture` has of the prompt, (T, ...) each;
    `tokens` (1, T). Keys are looked for in `contexts` (B, T), or in the prompt where there are none."""
    model = engine.model
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

        def keep(name: str, chosen: Tensor, activation: Tensor) -> Tensor:
            neurons[name] = activation[..., chosen]
            return activation

        with edited(model, {name: partial(keep, name, chosen) for name, chosen in zip(names, choices, strict=True)}):
            model.hidden(contexts)  # nobody needs its logits, which are many
    rows = []
    for i, (activation, written, chosen) in enumerate(zip(activations, adds, choices, strict=True)):
        # In gated MLPs a neuron may be far below 0, and writes the opposite then.
        sign = 1 - 2 * (activation[chosen] < 0).int()
        excited = highest(neurons[names[i]] * sign, KEYS)
        writes = neuron_writes(model, i, chosen).float() * sign[:, None]
        for n, neuron in enumerate(chosen.tolist()):
            keys = [
                {"before": _before(engine, read[row, :position]), "text": token_text(engine, int(read[row, position])),
                 "activation": a * sign[n].item()}
                for a, row, position in zip(
                    excited.activation[n].tolist(), excited.row[n].tolist(), excited.position[n].tolist(), strict=True
                )
            ]  # fmt: skip
            rows.append({
                "layer": i, "neuron": neuron, "activation": activation[neuron].item(),
                "adds": None if written is None else written[neuron].item(),
                "keys": keys, "values": [text for text, _ in likeliest(engine, writes[n], VALUES)],
            })  # fmt: skip
    return sorted(rows, key=lambda row: abs(row["activation"]) if row["adds"] is None else row["adds"], reverse=True)


def _before(engine: Engine, ids: Tensor) -> str:
    """The end of what stands before."""
    return "".join(token_text(engine, id) for id in ids[-SHOWN_BEFORE:].tolist())[-SHOWN_BEFORE:]
