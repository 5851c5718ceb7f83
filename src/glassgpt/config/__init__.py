"""What a run is: settings, presets, and how they are read and written. Never imports torch."""

from glassgpt.config.load import build_config, config_text
from glassgpt.config.presets import DEFAULT_PRESET, PRESETS, describe_presets
from glassgpt.config.schema import DataConfig, GPTConfig, MachineConfig, RunConfig, TrainConfig

__all__ = [
    "DEFAULT_PRESET",
    "PRESETS",
    "DataConfig",
    "GPTConfig",
    "MachineConfig",
    "RunConfig",
    "TrainConfig",
    "build_config",
    "config_text",
    "describe_presets",
]
