"""A small model of each architecture, and something for it to read."""

import pytest
import torch

from glassgpt.model import ARCHITECTURES, LanguageModel

from ..model.conftest import small, some_tokens


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return small(request.param)


@pytest.fixture
def tokens() -> torch.Tensor:
    return some_tokens(5, 7)
