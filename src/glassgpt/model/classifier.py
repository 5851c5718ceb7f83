"""A language model that tells labels apart: the same body, and instead of the vocabulary's matrix one with a row a label.

What the body makes of a text's last token, which alone has seen all of it, is what the label is read from (Radford et al.
2018, section 3.3; transformers' GPT2ForSequenceClassification, which computes the same).
"""

import torch
from torch import Tensor, nn

from glassgpt.model.cache import Cache
from glassgpt.model.language_model import LanguageModel


class Classifier(LanguageModel):
    """`unembed` gives logits (..., labels). `labels` in the order of their numbers. An output matrix of the body's own, where
    its embeddings are not tied, is taken off it."""

    def __init__(self, body: LanguageModel, labels: tuple[str, ...]) -> None:
        super().__init__(body.config)
        self.labels = labels
        self.body = body
        if hasattr(body, "lm_head"):
            del body.lm_head
        like = next(body.parameters())
        self.score = nn.Linear(body.config.n_embd, len(labels), bias=False, device=like.device, dtype=like.dtype)

    def init_score(self, seed: int) -> None:
        """As every matrix of GPT-2 begins; the body is left as it is."""
        drawn = torch.empty(self.score.weight.shape).normal_(std=0.02, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            self.score.weight.copy_(drawn)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        return self.body.hidden(tokens, cache)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.body.blocks

    @property
    def embedding(self) -> Tensor:
        return self.body.embedding

    @property
    def final_norm(self) -> nn.Module:
        return self.body.final_norm

    @property
    def unembedding(self) -> Tensor:
        return self.score.weight

    def unembed(self, hidden: Tensor) -> Tensor:
        return self.score(hidden)
