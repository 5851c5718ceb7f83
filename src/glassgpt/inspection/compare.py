"""Several runs side by side, as plain numbers: what differs, what compares, and which is best."""

from collections.abc import Sequence
from pathlib import Path

from glassgpt.checkpoint import Run
from glassgpt.checkpoint.files import TOKENIZER
from glassgpt.config.schema import FIELDS, SECTION_OF, shown_name
from glassgpt.disk import sha256_of
from glassgpt.errors import ConfigError
from glassgpt.inspection.figures import KINDS, Figures, unit_of
from glassgpt.inspection.report import Report, report_run
from glassgpt.inspection.settings import words_of

SHOWN = ("folder", "task", "complete", "state", "standing", "figures", "curves", "validation", "wrote")
# A loss in nats a token compares only among those who cut a text into the same tokens, bits a byte only on the same text.
OF_TOKENS, OF_TEXT = (
    ("val_loss", "best_val_loss", "step_tokens_per_second"),
    ("val_loss", "best_val_loss", "bits_per_byte", "best_bits_per_byte", "accuracy"),
)


def compare_runs(runs: Sequence[Run]) -> Report:
    """Runs side by side: their figures with the best of those that compare, the settings that differ, curves, last samples.
    Raises ConfigError for fewer than two different runs."""
    folders = [run.folder.resolve() for run in runs]
    if len(runs) < 2:
        raise ConfigError(
            f"a comparison takes at least two runs, and {len(runs) or 'none'} is named; name more: RUN RUN"
        )
    twice = next((run.folder for i, run in enumerate(runs) if folders[i] in folders[:i]), None)
    if twice is not None:
        raise ConfigError(f"{twice} is named twice, and a run does not differ from itself; name it once")
    reports = [report_run(run) for run in runs]
    unique = len({folder.name for folder in folders}) == len(folders)
    settings = [words_of(run.config()) for run in runs]
    used = [name for name in FIELDS if any(name in words for words in settings)]
    differ = [name for name in used if len({words.get(name) for words in settings}) > 1]
    figures = [report["figures"] for report in reports]
    labelled = [report["task"] == "labels" for report in reports]
    groups = [[i for i, one in enumerate(labelled) if one is kind] for kind in sorted(set(labelled))]
    notes = [
        comparability([runs[i] for i in group], [reports[i] for i in group], mixed=len(groups) > 1) for group in groups
    ]
    rows = [
        {
            "name": name,
            "label": label_of(name, figures),
            "words": [kind.words(one[name]) if one.get(name) is not None else "" for one in figures],
            "best": [
                i
                for group, why in zip(groups, notes, strict=True)
                for i in best_of(name, {i: figures[i] for i in group}, why)
            ],
        }
        for name, kind in KINDS.items()
        if name != "saved_step" and any(one.get(name) is not None for one in figures)
    ]
    among = ": the best is marked among those that do the same" if any(row["best"] for row in rows) else ""
    of_two_kinds = f"Some of these runs tell labels apart, others write{among}."
    return {
        "runs": [
            {
                "name": report["name"] if unique else report["folder"],
                **{name: report[name] for name in SHOWN},
                "sample": report["samples"][-1] if report["samples"] else None,
                "bits_per_nat": bits_per_nat(report["validation"]),
            }
            for report in reports
        ],
        "rows": rows,
        "differ": [
            {
                "section": SECTION_OF[name],
                "name": shown_name(name),
                "values": [words.get(name) for words in settings],  # None where it plays no part
            }
            for name in differ
        ],
        "equal": len(used) - len(differ),
        "notes": [*([of_two_kinds] if groups[1:] else []), *(note for why in notes for note in why.values())],
        "same_tokens": not any("tokenizer" in why for why in notes),  # else the page begins with bits a byte
    }


def label_of(name: str, figures: Sequence[Figures]) -> str:
    units = {unit_of(name, one) for one in figures}
    unit = units.pop() if len(units) == 1 else "nats"
    return f"{KINDS[name].label}, {unit}" if unit else KINDS[name].label


def best_of(name: str, figures: dict[int, Figures], notes: dict[str, str]) -> list[int]:
    """Which runs have the best of a figure, by their numbers; none where it does not compare, or all have the same."""
    sign = KINDS[name].better
    known = {i: sign * one[name] for i, one in figures.items() if one.get(name) is not None}
    if not sign or len(set(known.values())) < 2:
        return []
    if (name in OF_TOKENS and "tokenizer" in notes) or (name in OF_TEXT and "text" in notes):
        return []
    if name == "step_tokens_per_second" and "speed" in notes:
        return []
    return [i for i, value in known.items() if value == max(known.values())]


def comparability(runs: Sequence[Run], reports: Sequence[Report], mixed: bool) -> dict[str, str]:
    """What keeps the figures of runs that do the same from being compared, in words. `mixed`: others do something else."""
    notes = {}
    labelled = reports[0]["task"] == "labels"
    who = f"Those of these runs that {'tell labels apart' if labelled else 'write'}" if mixed else "These runs"
    other_texts = have_different_texts(runs, reports)
    if have_different_tokenizers(runs):
        unequal = f"{who} have different tokenizers: "
        if labelled:  # a loss is in nats a text
            notes["speed"] = f"{unequal}tokens/s is not comparable, since their tokens are not equally long."
        else:
            either = "." if other_texts else "; bits_per_byte is."
            notes["tokenizer"] = f"{unequal}val_loss, in nats a token, is not comparable{either}"
    if other_texts:
        notes["text"] = (
            f"{who} were validated on different texts: their losses say as much of the texts as of the models."
        )
    return notes


def have_different_texts(runs: Sequence[Run], reports: Sequence[Report]) -> bool:
    """By what can be reached without learning, a figure of the text alone; where that is not known, by their names. Many texts
    have labels that are equally common: those that also differ in name and content are different."""
    baselines = [r["figures"].get("baseline_bits_per_byte") or r["figures"].get("baseline_accuracy") for r in reports]
    names = {(run.config().data.data, run.config().data.text_field) for run in runs}
    if None in baselines:
        return len(names) > 1
    contents = {str(report["fingerprint"]) for report in reports}
    same_shares = reports[0]["task"] == "labels" and len(names) > 1 and len(contents) > 1
    return len(set(baselines)) > 1 or same_shares


def have_different_tokenizers(runs: Sequence[Run]) -> bool:
    """By their files; a run that has no checkpoint yet is known by the settings of its tokenizer alone."""
    files = [newest_tokenizer(run) for run in runs]
    settings = {(config.data.tokenizer, config.model.vocab_size) for config in (run.config() for run in runs)}
    return len({sha256_of(file) for file in files if file}) > 1 or (None in files and len(settings) > 1)


def newest_tokenizer(run: Run) -> Path | None:
    files = [run.checkpoint_folder(step) / TOKENIZER for step in run.steps()]
    return next((file for file in reversed(files) if file.is_file()), None)


def bits_per_nat(validation: Report) -> float | None:
    """Bits a byte for each nat a token: a constant of the text and its tokenizer."""
    pairs = zip(validation.get("bits_per_byte", []), validation.get("val_loss", []), strict=False)
    return next((bits / loss for bits, loss in reversed([*pairs]) if bits and loss), None)
