import pytest
import torch

from glassgpt.machine import peak_flops
from glassgpt.machine.peak import peak_of


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L4", 121e12),
        ("NVIDIA A100-SXM4-40GB", 312e12), ("NVIDIA A100 80GB PCIe", 312e12), ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
    ],
)  # fmt: skip
def test_what_a_data_sheet_says(name, peak):
    assert peak_of(name) == peak


@pytest.mark.parametrize(
    "name", ["NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 3090 Ti", "Tesla T4", ""]
)
def test_a_relative_is_unknown_rather_than_wrong(name):
    assert peak_of(name) is None


def test_only_of_a_gpu_in_bfloat16(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA H200")
    assert peak_flops(torch.device("cuda", 0), "bfloat16") == 989e12
    assert peak_flops(torch.device("cuda", 0), "float32") is None
    assert peak_flops(torch.device("cpu"), "bfloat16") is None
