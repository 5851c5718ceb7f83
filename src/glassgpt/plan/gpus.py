"""GPUs by name, and what training on them takes by estimate."""

from typing import NamedTuple

from glassgpt.machine.peak import peak_of

GIB = 2**30
# Of the peak that its maker names, published trainings reached 21 % (GPT-3) to 46 % (PaLM; both in 2204.02311, table 3). One
# figure for all, and every time that follows from it is an estimate.
SHARE_OF_PEAK = 0.4
# The CUDA context, its libraries and what the caching allocator cannot use.
CONTEXT, ALLOCATOR = 1 * GIB, 1.1


class GPU(NamedTuple):
    name: str  # as people say it
    device: str  # as torch.cuda.get_device_name does
    memory: int  # bytes


GPUS = (
    GPU("RTX 3090", "NVIDIA GeForce RTX 3090", 24 * GIB),
    GPU("RTX 4090", "NVIDIA GeForce RTX 4090", 24 * GIB),
    GPU("L4", "NVIDIA L4", 24 * GIB),
    GPU("A100 80GB", "NVIDIA A100-SXM4-80GB", 80 * GIB),
    GPU("H100 80GB", "NVIDIA H100 80GB HBM3", 80 * GIB),
    GPU("B200", "NVIDIA B200", 180 * GIB),
)


def estimated_tokens_per_second(gpu: GPU, flops_a_token: int) -> float:
    peak = peak_of(gpu.device)
    assert peak is not None
    return SHARE_OF_PEAK * peak / flops_a_token
