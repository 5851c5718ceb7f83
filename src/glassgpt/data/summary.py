"""What `glassgpt prepare` tells about the text: counted, not guessed, and a sample of what the model will read."""

from collections import defaultdict
from dataclasses import dataclass

from glassgpt.data.token_file import DataFolder
from glassgpt.tokenizer import END_OF_TEXT

SAMPLE_TOKENS = 60
EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Summary:
    documents: int
    source_bytes: int
    train_tokens: int
    val_tokens: int
    vocab_size: int
    tokenizer_kind: str
    baseline_bits_per_byte: float
    unmarked: bool  # several documents, and nothing between them
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
        return [
            f"{self.documents:,} document{'s' * (self.documents > 1)}, {self.source_bytes:,} bytes, "
            f"{self.tokens:,} tokens ({self.tokenizer_kind}, vocabulary {self.vocab_size:,}, "
            f"{self.bytes_per_token:.2f} bytes a token)",
            f"{self.train_tokens:,} tokens for training, {self.val_tokens:,} for validation, where counting byte n-grams "
            f"reaches {self.baseline_bits_per_byte:.3f} bits a byte",
            *unmarked,
            *skipped,
        ]

    def lines(self) -> list[str]:
        """The facts, and a sample of what the model will read."""
        return [*self.facts(), f"it begins: {self.sample!r}"]


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
        baseline_bits_per_byte=meta.baseline_bits_per_byte,
        unmarked=meta.documents > 1 and tokenizer.end_of_text is None,
        skipped={reason: (len(names), tuple(names[:EXAMPLES])) for reason, names in by_reason.items()},
        sample=tokenizer.decode([int(i) for i in data.train[:SAMPLE_TOKENS]]),
    )
