import pytest

from glassgpt.config import GPTConfig
from glassgpt.errors import ConfigError


def test_a_gated_mlp_takes_no_activation():
    with pytest.raises(
        ConfigError, match="activation 'gelu' is for gpt2 and textbook; the MLP of architecture modern is"
    ):
        GPTConfig(architecture="modern", activation="gelu")
    assert GPTConfig(architecture="gpt2", activation="gelu").activation == "gelu"
