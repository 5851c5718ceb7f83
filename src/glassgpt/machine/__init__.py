"""What this machine can do: decided once, by short trials where belief is not enough, and said in one line each."""

from glassgpt.machine.decide import (
    Decision,
    decide_compile,
    decide_device,
    decide_precision,
    decide_replicas,
    decide_threads,
    threads_restored,
)
from glassgpt.machine.describe import describe_environment, free_disk, free_memory, process_seconds, total_memory
from glassgpt.machine.memory import give_back_freed_memory, is_freed_memory_kept, keep_freed_memory
from glassgpt.machine.peak import peak_flops

__all__ = [
    "Decision",
    "decide_compile",
    "decide_device",
    "decide_precision",
    "decide_replicas",
    "decide_threads",
    "describe_environment",
    "free_disk",
    "free_memory",
    "give_back_freed_memory",
    "is_freed_memory_kept",
    "keep_freed_memory",
    "peak_flops",
    "process_seconds",
    "threads_restored",
    "total_memory",
]
