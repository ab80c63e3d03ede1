"""The batch size that fits into a device's memory."""

from __future__ import annotations

import torch

from parbench.models.adapter import ModelAdapter

# Share of the device's total memory for the rows of a batch. Weights, the vision tower and other programs need the rest; main
# memory is shared with more programs. Free memory is not used, since a resumed run has to be planned in the same way.
_SHARE = {"cuda": 0.5, "cpu": 0.1}
# Larger batches are not faster; on a CPU, smaller ones use the caches better.
_MOST = {"cuda": 128, "cpu": 40}
# Assumed tokens of prompt and answer, without visual tokens.
_TEXT = 128
# Width and height of an assumed image, where images have different numbers of tokens and the data are not known.
_IMAGE = (1344, 1008)


def row_bytes(adapter: ModelAdapter, visual: int | None = None) -> int:
    """Bytes of one unreduced row: keys and values in all layers, twice while a batch is shrunk, and one layer's activations.

    Args:
        adapter: The model.
        visual: Its visual tokens and separators; None for those of an image, or of a large one if they depend on the image.
    """
    if visual is None:
        visual = len(adapter.family.tokens_of(_IMAGE).source) if adapter.geometry.varies else adapter.geometry.patches
    config, length = adapter.language.config, visual + _TEXT
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_key_value_heads * width * config.num_hidden_layers
    work = 8 * config.hidden_size + 3 * config.intermediate_size
    count: int = length * (2 * cache + work) * adapter.dtype.itemsize
    return count


def batch_size(adapter: ModelAdapter, visual: int | None = None) -> int:
    """Rows per batch that fit into a share of the device's memory; see :func:`row_bytes`."""
    kind = adapter.device.type
    if kind == "cuda":
        total = torch.cuda.get_device_properties(adapter.device).total_memory
    else:
        import psutil

        total = psutil.virtual_memory().total
    return max(1, min(_MOST.get(kind, 1), int(_SHARE.get(kind, 0.1) * total) // row_bytes(adapter, visual)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory. On a CPU, torch has no exception class for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "not enough memory" in str(error)
    )
