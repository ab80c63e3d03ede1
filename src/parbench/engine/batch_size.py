"""How many rows fit into a device's memory at once."""

from __future__ import annotations

import torch

from parbench.models.adapter import LlavaAdapter

# Of the device's whole memory, for rows: weights, the vision tower and other programs need the rest. A machine's own memory is
# shared with everything else that runs on it. Not the memory that happens to be free: a run has to be planned in the same way
# again.
_SHARE = {"cuda": 0.5, "cpu": 0.1}
# Beyond this a batch gains nothing; on a CPU the caches do.
_MOST = {"cuda": 128, "cpu": 40}
# Prompt and answer beside the visual tokens.
_TEXT = 128


def row_bytes(adapter: LlavaAdapter) -> int:
    """Memory of one unreduced row: keys and values in all layers, twice while a batch is made smaller, and one layer's work."""
    config, length = adapter.language.config, adapter.geometry.patches + _TEXT
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_key_value_heads * width * config.num_hidden_layers
    work = 8 * config.hidden_size + 3 * config.intermediate_size
    return length * (2 * cache + work) * adapter.dtype.itemsize


def batch_size(adapter: LlavaAdapter) -> int:
    """Rows of a batch: what fits into a share of the device's memory."""
    kind = adapter.device.type
    if kind == "cuda":
        total = torch.cuda.get_device_properties(adapter.device).total_memory
    else:
        import psutil

        total = psutil.virtual_memory().total
    return max(1, min(_MOST.get(kind, 1), int(_SHARE.get(kind, 0.1) * total) // row_bytes(adapter)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough; on a CPU torch has no class of its own for that."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "not enough memory" in str(error)
    )
