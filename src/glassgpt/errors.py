"""Everything that a user can cause and that ends a command with one line instead of a traceback.

    GlassError                 exit 1: the run failed
    ├── UsageError             exit 2: the command cannot be carried out as it was given
    │   ├── ConfigError          a setting is unknown, out of range, or does not fit another one
    │   ├── DataError            the text is missing, unreadable, too short, or damaged
    │   ├── TokenizerError       text or ids that this tokenizer cannot represent; ranks that cannot be found
    │   └── CheckpointError      a run or checkpoint is missing, damaged, or does not fit the model
    │       └── DamageError        exit 1: what was written once is gone, or is not what was written
    ├── MachineError           this machine lacks what was asked for: a device, memory, disk
    │   └── DiskError            no room for a file, or no right to write it (disk.py, which says it for all)
    └── Stopped                exit 128 + signal: a signal ended the work after everything was saved

A message says what is wrong, the rule, and what to do, in one line. Nothing is imported here: signals are not heeded yet.
"""


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether Python, torch on a GPU, or torch's allocator on a CPU (a bare RuntimeError) found no more memory."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(problem, MemoryError) or (
        isinstance(problem, RuntimeError) and any(word in str(problem) for word in words)
    )


class GlassError(Exception):
    exit_code = 1


class UsageError(GlassError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class DataError(UsageError):
    pass


class TokenizerError(UsageError):
    pass


class CheckpointError(UsageError):
    pass


class DamageError(CheckpointError):
    exit_code = 1


class MachineError(GlassError):
    pass


class Stopped(GlassError):  # noqa: N818 - a stop that was asked for is no error
    """`signal_number` is the signal that asked for the stop: 2 for Ctrl-C, 15 for a polite kill."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
