"""Looking inside a model: its activations, its attention, what each part contributes, and what is lost without it."""

from glassgpt.inspection.ablation import Ablation, ablate
from glassgpt.inspection.attention import HeadScores, head_scores
from glassgpt.inspection.capture import activation_names, capture, edited
from glassgpt.inspection.gradients import gradient_norms
from glassgpt.inspection.look import look
from glassgpt.inspection.neurons import Excitement, cosine_table, most_excited, neuron_writes, similar_rows
from glassgpt.inspection.page import render
from glassgpt.inspection.probes import Attribution, Pair, attribute
from glassgpt.inspection.stream import contributions, head_outputs, logit_lens, parts, stages
from glassgpt.inspection.trace import TracedLine, Value, trace, traced

__all__ = [
    "Ablation",
    "Attribution",
    "Excitement",
    "HeadScores",
    "Pair",
    "TracedLine",
    "Value",
    "ablate",
    "activation_names",
    "attribute",
    "capture",
    "contributions",
    "cosine_table",
    "edited",
    "gradient_norms",
    "head_outputs",
    "head_scores",
    "logit_lens",
    "look",
    "most_excited",
    "neuron_writes",
    "parts",
    "render",
    "similar_rows",
    "stages",
    "trace",
    "traced",
]
