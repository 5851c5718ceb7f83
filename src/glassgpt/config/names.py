"""What other schools call our settings, and what somebody may have meant."""

import difflib
from collections.abc import Iterable

# Refused like any unknown name, but by someone who knows them.
FOREIGN_NAMES = {
    "block_size": "context_length",
    "n_ctx": "context_length",
    "n_positions": "context_length",
    "max_seq_len": "context_length",
    "sequence_length": "context_length",
    "max_position_embeddings": "context_length",
    "emb_dim": "n_embd",
    "d_model": "n_embd",
    "hidden_size": "n_embd",
    "n_layers": "n_layer",
    "num_layers": "n_layer",
    "depth": "n_layer",
    "num_hidden_layers": "n_layer",
    "n_heads": "n_head",
    "num_heads": "n_head",
    "num_attention_heads": "n_head",
    "n_kv_heads": "n_kv_head",
    "num_key_value_heads": "n_kv_head",
    "n_query_groups": "n_kv_head",
    "intermediate_size": "n_inner",
    "hidden_dim": "n_inner",
    "drop_rate": "dropout",
    "weight_tying": "tie_embeddings",
    "tie_word_embeddings": "tie_embeddings",
    "layer_norm_epsilon": "norm_eps",
    "rms_norm_eps": "norm_eps",
    "activation_function": "activation",
    "max_iters": "max_steps",
    "num_iterations": "max_steps",
    "iterations": "max_steps",
    "steps": "max_steps",
    "epochs": "max_steps",
    "num_epochs": "max_steps",
    "num_train_epochs": "max_steps",
    "lr": "learning_rate",
    "max_lr": "learning_rate",
    "min_lr": "decay_to",
    "wd": "weight_decay",
    "warmup": "warmup_steps",
    "warmup_iters": "warmup_steps",
    "matrix_lr": "matrix_learning_rate",
    "muon_lr": "matrix_learning_rate",
    "muon_momentum": "momentum",
    "lr_decay_iters": "max_steps",
    "lr_scheduler_type": "schedule",
    "device_batch_size": "micro_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "batch_size",
    "max_grad_norm": "grad_clip",
    "grad_norm_clip": "grad_clip",
    "eval_interval": "eval_every",
    "eval_freq": "eval_every",
    "save_interval": "save_every",
    "save_steps": "save_every",
    "log_interval": "log_every",
    "logging_steps": "log_every",
    "dtype": "precision",
    "dataset": "data",
    "out_dir": "out",
    "output_dir": "out",
    "num_threads": "threads",
}


def suggestion(name: str, known: Iterable[str]) -> str:
    """'; here it is called context_length', '; did you mean n_layer?', or nothing."""
    plain = name.lower().lstrip("-").replace("-", "_")
    if plain in FOREIGN_NAMES:
        return f"; here it is called {FOREIGN_NAMES[plain]}"
    close = difflib.get_close_matches(plain, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
