"""modern.py with embeddings of groups of neighbouring tokens beside those of the tokens (over-encoding: Huang et al. 2025,
2501.16975): what was just read is looked up instead of worked out by attention. One small text is learned in half the time.

Shapes: B batch, T positions in this call, C n_embd.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.model.cache import Cache
from glassgpt.model.modern import Modern, Trunk


class NgramEmbedding(nn.Module):
    """For each position the sum of the embeddings of the groups of 2 to `longest` tokens that end there. There are `rows` of
    them for the groups of each length, which share them by a hash: a row is one group's own where there are fewer groups than
    rows."""

    def __init__(self, longest: int, rows: int, vocab_size: int, n_embd: int) -> None:
        super().__init__()
        self.longest, self.rows, self.nothing = longest, rows, vocab_size  # a token that stands for none
        self.weight = nn.Parameter(torch.empty((longest - 1) * rows, n_embd))  # the rows of one length after the other

    def forward(self, tokens: Tensor, before: Tensor) -> Tensor:
        """tokens (B, T), and the up to `longest` - 1 that stand before them, (B, P) -> (B, T, C)."""
        B, T = tokens.shape
        rows = self.rows_of(tokens, before).view(B * T, -1)
        return F.embedding_bag(rows, self.weight, mode="sum").view(B, T, -1)

    def rows_of(self, tokens: Tensor, before: Tensor) -> Tensor:
        """The row of each group that ends at a position, those of two tokens first: (B, T, longest - 1)."""
        T = tokens.shape[1]
        reach = self.longest - 1
        all_tokens = F.pad(torch.cat((before, tokens), dim=1), (reach - before.shape[1], 0), value=self.nothing)
        groups, group = [], tokens
        for back in range(1, self.longest):  # the group as a number in base V + 1, modulo rows
            earlier = all_tokens[:, reach - back : reach - back + T]
            group = (group + earlier * pow(self.nothing + 1, back, self.rows)) % self.rows
            groups.append(group + (back - 1) * self.rows)
        return torch.stack(groups, dim=-1)


class NgramTrunk(Trunk):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.embed_ngrams = NgramEmbedding(config.n_gram, config.n_gram_rows, config.vocab_size, config.n_embd)

    def embed(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        before = tokens[:, :0] if cache is None else cache.before(tokens, self.embed_ngrams.longest - 1)
        return super().embed(tokens, cache) + self.embed_ngrams(tokens, before)


class Ngram(Modern):
    trunk = NgramTrunk
