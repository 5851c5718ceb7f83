"""A run that is killed, and killed again, ends with the same bits as the one that nobody disturbed."""

import os

import pytest

from ..warm import Warm
from .killing import kill_again_and_again

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.mark.parametrize(("architecture", "optimizer"), [("gpt2", "muon"), ("modern", "adamw")])
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path, architecture, optimizer):
    with Warm() as warm:
        outcome = kill_again_and_again(warm, tmp_path, 5, 1, "--architecture", architecture, "--optimizer", optimizer)
    assert outcome.kills >= 5 and outcome.in_saves >= 0.4 * outcome.kills
    assert outcome.differences == []
