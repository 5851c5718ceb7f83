"""The model as a drawing: what flows through it, with its shapes, and what each part has learned numbers for."""

from glassgpt.config import GPTConfig
from glassgpt.model.size import count_parameters

WIDTH = 72
BRANCH = "│  ├────────┐"
JOIN = "│  + ◄──────┘"
STRAIGHT = "│  │"


def diagram(c: GPTConfig, batch_size: int, is_classifier: bool = False) -> list[str]:
    """Lines of at most WIDTH characters, for `batch_size` rows of a whole context."""
    count = count_parameters(c)
    B, T, C, V = batch_size, c.context_length, c.n_embd, c.vocab_size
    norm = "RMSNorm" if c.is_modern else "LayerNorm"
    of_norm = C if c.is_modern else (1 + c.bias) * C
    in_block = (count.attention + count.mlp + count.norms - of_norm) // c.n_layer
    stream = f"({B}, {T}, {C})"
    lines = [f"tokens ({B}, {T})", "  │", line(f"  ├─ token embedding, {V:,} x {C}", count.embedding)]
    if c.architecture == "ngram":
        several = "2" if c.n_gram == 2 else f"2 to {c.n_gram}"
        groups = f"  ├─ embedding of {several} tokens, {c.n_gram - 1} x {c.n_gram_rows:,} x {C}"
        lines.append(line(groups, count.n_grams))
    if count.positions:
        lines.append(line(f"  ├─ position embedding, {T:,} x {C}", count.positions))
    lines += [f"  ▼ {stream}", line(f"┌─ block, {c.n_layer} times", in_block, " each")]
    for part in (attention(c, B), mlp(c, B)):
        rows = [inside(text, number) for text, number in part]
        normed = [inside(norm, of_norm)]
        if c.norm_position == "pre":
            rows = normed + rows
        lines += [BRANCH, *rows, JOIN] if c.residual else rows
        if c.norm_position == "post":  # of the sum
            lines += normed
    lines += [f"└─ ▼ {stream}", line(f"  {norm}", of_norm)]
    if is_classifier:
        return [*lines, f"  output layer, {C} for each label, at the last token", "  ▼", f"logits ({B}, labels)"]
    output = "  output layer, the token embedding (tied)" if c.tie_embeddings else f"  output layer, {C} x {V:,}"
    lines += [line(output, count.head), "  ▼", f"logits ({B}, {T}, {V})"]
    return lines


def attention(c: GPTConfig, B: int) -> list[tuple[str, int | None]]:
    count, T, D = count_parameters(c), c.context_length, c.head_width
    heads = f"attention, {c.n_head} heads x {D}"
    if c.kv_heads != c.n_head:
        heads += f", {c.kv_heads} of keys"
    rows: list[tuple[str, int | None]] = [
        (heads, count.attention // c.n_layer),
        (f"  q ({B}, {c.n_head}, {T}, {D})", None),
        (f"  k, v ({B}, {c.kv_heads}, {T}, {D})", None),
    ]
    if c.is_modern:
        rows[1:1] = [("  norm of q and k, rotation", 2 * D)]
    return rows


def mlp(c: GPTConfig, B: int) -> list[tuple[str, int | None]]:
    kind = "SwiGLU" if c.is_modern else {"gelu_tanh": "GELU", "gelu": "GELU (erf)", "relu": "ReLU"}[c.activation]
    each = count_parameters(c).mlp // c.n_layer
    return [
        (f"MLP, {c.n_embd} -> {c.mlp_width:,} -> {c.n_embd}, {kind}", each),
        (f"  neurons ({B}, {c.context_length}, {c.mlp_width})", None),
    ]


def inside(text: str, number: int | None) -> str:
    start = f"{STRAIGHT}      {text}"
    return start if number is None else line(start, number)


def line(text: str, number: int, after: str = "") -> str:
    return f"{text} ".ljust(WIDTH - 22, "·") + f" {number:>15,}{after}"
