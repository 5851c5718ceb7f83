"""What is written into the residual stream, and what it says."""

import pytest
import torch

from glassgpt.errors import ConfigError
from glassgpt.inspection import capture, contributions, head_outputs, logit_lens, parts, stages
from glassgpt.inspection.capture import last_of_attention

from ..model.conftest import small


def test_the_contributions_sum_to_the_logit(model, tokens):
    found = capture(model, tokens, [*parts(model), *stages(model)])
    wanted = tokens.roll(2, dims=1)
    written = contributions(model, found, wanted)
    assert [*written] == [*parts(model), "bias"]
    logit = found["logits"].gather(-1, wanted[..., None])[..., 0]
    torch.testing.assert_close(sum(written.values()), logit)
    assert all(value.shape == tokens.shape for value in written.values())


def test_the_lens_on_the_last_block_is_the_model(model, tokens):
    found = capture(model, tokens, stages(model))
    torch.testing.assert_close(logit_lens(model, found["block.1"]), found["logits"])
    assert not torch.allclose(logit_lens(model, found["block.0"]), found["logits"])


def test_what_the_heads_add_is_what_attention_adds(model, tokens):
    found = capture(model, tokens, ["block.*.heads", "block.*.attention"])
    for i in range(model.config.n_layer):
        added = head_outputs(model, i, found[f"block.{i}.heads"])
        assert added.shape == (5, model.config.n_head, 7, model.config.n_embd)
        rest = found[f"block.{i}.attention"] - added.sum(dim=1)  # the projection's bias, the same everywhere
        bias = last_of_attention(model.blocks[i]).bias
        expected = torch.zeros(model.config.n_embd, dtype=rest.dtype) if bias is None else bias
        torch.testing.assert_close(rest, expected.expand_as(rest))


def test_what_was_not_captured_is_named(model, tokens):
    found = capture(model, tokens, parts(model))
    with pytest.raises(ConfigError, match=r"lacks block.1; capture \[\*parts\(model\), \*stages\(model\)\]"):
        contributions(model, found, tokens)


@pytest.mark.parametrize("changes", [{"norm_position": "post"}, {"residual": False}])
def test_a_stream_that_is_no_sum_has_no_parts(tokens, changes):
    model = small("textbook", **changes)
    with pytest.raises(ConfigError, match="no part of it can be told apart"):
        contributions(model, capture(model, tokens, ["*"]), tokens)
