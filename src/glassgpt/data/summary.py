"""What `glassgpt prepare` tells about the text: counted, not guessed, and a sample of what the model will read."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from glassgpt.data.folder import DataFolder
from glassgpt.data.meta import DataMeta
from glassgpt.tokenizer import END_OF_TEXT

SAMPLE_TOKENS = 60
EXAMPLES = 3
SHOWN_LABELS = 8


@dataclass(frozen=True, kw_only=True)
class Summary:
    documents: int
    source_bytes: int
    train_tokens: int
    val_tokens: int
    vocab_size: int
    tokenizer_kind: str
    baseline: str  # what can be reached without learning
    content: str  # what the documents are, and how much of it is learned
    unmarked: bool  # several documents, and nothing between them
    alone: bool  # one of several documents is all that is for validation
    skipped: dict[str, tuple[int, tuple[str, ...]]]  # reason -> how many, and the names of the first few
    sample: str  # the first tokens of training, decoded

    @property
    def tokens(self) -> int:
        return self.train_tokens + self.val_tokens

    @property
    def bytes_per_token(self) -> float:
        return self.source_bytes / self.tokens

    def facts(self) -> list[str]:
        """For the terminal: one fact a line."""
        skipped = [
            f"skipped: {count} {reason} ({', '.join(names)}{', ...' if count > len(names) else ''})"
            for reason, (count, names) in self.skipped.items()
        ]
        unmarked = (
            [f"this tokenizer has no {END_OF_TEXT}: documents follow each other unmarked"] if self.unmarked else []
        )
        alone = (
            [
                f"one document of {self.documents:,} is all that is for validation ({self.val_tokens / self.tokens:.0%} of "
                "the tokens): where it is unlike the others, the loss there says little about them"
            ]
            if self.alone
            else []
        )
        return [
            f"{self.content}, {self.source_bytes:,} bytes, "
            f"{self.tokens:,} tokens ({self.tokenizer_kind}, vocabulary {self.vocab_size:,}, "
            f"{self.bytes_per_token:.2f} bytes a token)",
            f"{self.train_tokens:,} tokens for training, {self.val_tokens:,} for validation, where {self.baseline}",
            *alone,
            *unmarked,
            *skipped,
        ]

    def lines(self) -> list[str]:
        """The facts, and a sample of what the model will read."""
        return [*self.facts(), f"it begins: {self.sample!r}"]


def baseline(meta: DataMeta) -> str:
    if meta.baseline_accuracy is not None:
        return f"always saying the commonest label reaches {meta.baseline_accuracy:.1%}"
    what = "of the answers " if meta.task == "conversations" else ""
    return f"counting byte n-grams {what}reaches {meta.baseline_bits_per_byte:.3f} bits a byte"


def content(data: DataFolder) -> str:
    meta = data.meta
    if meta.task == "conversations":
        assert data.train_marks is not None
        return f"{meta.documents:,} conversations ({data.train_marks.mean():.0%} of the tokens are answers to learn)"
    if meta.task == "labels":
        assert data.train_marks is not None and data.val_marks is not None
        counts = np.bincount(np.concatenate([data.train_marks, data.val_marks]), minlength=len(meta.labels))
        commonest = np.argsort(-counts, kind="stable")[:SHOWN_LABELS]
        shown = ", ".join(f"{meta.labels[i]} {counts[i]:,}" for i in commonest)
        more = f", ... {len(meta.labels)} in all" if len(meta.labels) > SHOWN_LABELS else ""
        return f"{meta.documents:,} texts with a label ({shown}{more})"
    return f"{meta.documents:,} document{'s' * (meta.documents > 1)}"


def summarize(data: DataFolder) -> Summary:
    meta, tokenizer = data.meta, data.tokenizer()
    by_reason: dict[str, list[str]] = defaultdict(list)
    for skipped in meta.skipped:
        by_reason[skipped.reason].append(skipped.name)
    return Summary(
        documents=meta.documents,
        source_bytes=meta.train.source_bytes + meta.val.source_bytes,
        train_tokens=meta.train.tokens,
        val_tokens=meta.val.tokens,
        vocab_size=meta.vocab_size,
        tokenizer_kind=meta.tokenizer_kind,
        baseline=baseline(meta),
        content=content(data),
        alone=meta.task == "text" and meta.documents > 1 and meta.val.documents == 1,
        unmarked=meta.task == "text" and meta.documents > 1 and tokenizer.end_of_text is None,
        skipped={reason: (len(names), tuple(names[:EXAMPLES])) for reason, names in by_reason.items()},
        sample=tokenizer.decode([int(i) for i in data.train[:SAMPLE_TOKENS]]),
    )
