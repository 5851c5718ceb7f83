"""What a device can compute at most, as its maker's data sheet has it: a share of that says how well it is used."""

import re

import torch

# Matrix products in bfloat16, summed in float32, without sparsity, in operations a second; the names are those of
# torch.cuda.get_device_name. One that is not here is unknown: near relatives differ by half.
PEAKS = {
    r"NVIDIA B200": 2250e12,
    r"NVIDIA (GH200 480GB|H200|H100 80GB HBM3)": 989e12,
    r"NVIDIA H100 NVL": 835e12,
    r"NVIDIA H100 PCIe": 756e12,
    r"NVIDIA A100[- ](SXM4|PCIE|PCIe)?-?(40GB|80GB)?( PCIe)?": 312e12,
    r"NVIDIA L40S": 362e12,
    r"NVIDIA L4": 121e12,
    r"NVIDIA A10": 125e12,
    r"NVIDIA GeForce RTX 4090": 165e12,
    r"NVIDIA GeForce RTX 3090": 71e12,
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second, or None where the device, or its peak in this precision, is not in the table."""
    if device.type != "cuda" or precision != "bfloat16":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(name: str) -> float | None:
    return next((peak for pattern, peak in PEAKS.items() if re.fullmatch(pattern, name)), None)
