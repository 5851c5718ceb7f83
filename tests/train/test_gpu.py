"""What needs a GPU; skipped where there is none."""

import pytest
import torch

from glassgpt.train import train_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def losses(run):
    return [line["train_loss"] for line in run.metrics() if "train_loss" in line]


def test_float32_on_the_gpu_is_the_run_on_the_cpu_to_rounding(config):
    config = config.with_values(dropout=0.0)
    on_cpu, on_gpu = (train_run(config.with_values(device=device)) for device in ("cpu", "cuda"))
    assert losses(on_gpu) == pytest.approx(losses(on_cpu), rel=1e-3)


def test_bfloat16_and_compilation_learn_alike(config):
    config = config.with_values(dropout=0.0, max_steps=60, eval_every=60)
    plain = train_run(config.with_values(device="cuda"))
    fast = train_run(config.with_values(device="cuda", precision="bfloat16", compile="on"))
    assert losses(fast)[-1] == pytest.approx(losses(plain)[-1], rel=0.05)
