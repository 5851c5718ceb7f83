"""Published models by name, through huggingface-hub: downloaded once, then found in its cache, also without a network."""

from pathlib import Path

from glassgpt.errors import CheckpointError, MachineError

FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
]


def download(name: str) -> Path:
    """The folder of a model such as `gpt2`, `distilgpt2` or `Qwen/Qwen3-0.6B`. Raises MachineError without a network where
    it is not in the cache, CheckpointError where there is no such model or it is not open to us."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except HFValidationError:
        raise CheckpointError(
            f"{name} is neither a file or folder that is there nor the name of a published model"
        ) from None
    except GatedRepoError:
        raise CheckpointError(
            f"{name} wants its licence accepted on the hub first; do so, then: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{name} is neither a file or folder that is there nor a model that the hub knows"
        ) from None
    except LocalEntryNotFoundError:
        raise MachineError(
            f"{name} is no file or folder here, not in the hub's cache, and the hub cannot be reached; "
            "connect to the network once, or pass a folder with its config.json and model.safetensors"
        ) from None
    except Exception as error:  # whatever a proxy, a broken connection or a full disk raises in the libraries below
        try:
            return Path(snapshot_download(name, allow_patterns=FILES, local_files_only=True))
        except Exception:
            raise MachineError(f"{name} could not be downloaded: {error}; try again, what is there is kept") from None
