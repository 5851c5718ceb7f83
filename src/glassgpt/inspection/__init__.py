"""Looking inside a model: its activations, its attention, what each part contributes, and what is lost without it."""

from glassgpt.inspection.ablation import Ablation, ablate
from glassgpt.inspection.attention import HeadScores, head_scores
from glassgpt.inspection.capture import activation_names, capture, edited
from glassgpt.inspection.compare import compare_runs
from glassgpt.inspection.gradients import gradient_norms
from glassgpt.inspection.look import findings, look, opposed, strongest
from glassgpt.inspection.neurons import (
    Excitement,
    cosine_table,
    most_excited,
    neuron_contributions,
    neuron_writes,
    similar_rows,
)
from glassgpt.inspection.page import render
from glassgpt.inspection.pairs import read_pair
from glassgpt.inspection.probes import Attribution, Pair, attribute, carried
from glassgpt.inspection.report import report_run, run_with_figures
from glassgpt.inspection.stream import contributions, head_outputs, logit_lens, parts, stages
from glassgpt.inspection.trace import LineRun, Trace, TracedLine, Value, trace
from glassgpt.inspection.trace_page import traced

__all__ = [
    "Ablation",
    "Attribution",
    "Excitement",
    "HeadScores",
    "LineRun",
    "Pair",
    "Trace",
    "TracedLine",
    "Value",
    "ablate",
    "activation_names",
    "attribute",
    "capture",
    "carried",
    "compare_runs",
    "contributions",
    "cosine_table",
    "edited",
    "findings",
    "gradient_norms",
    "head_outputs",
    "head_scores",
    "logit_lens",
    "look",
    "most_excited",
    "neuron_contributions",
    "neuron_writes",
    "opposed",
    "parts",
    "read_pair",
    "render",
    "report_run",
    "run_with_figures",
    "similar_rows",
    "stages",
    "strongest",
    "trace",
    "traced",
]
