"""Weights of the LLM in 8 or 4 bits, by bitsandbytes."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import torch

from parbench.errors import ParbenchError, unknown
from parbench.models.devices import resolve_dtype

KINDS = ("bnb-8bit", "bnb-4bit")
# Modules that are not quantised: they are small, methods read them, and the head decides between tokens.
_WHOLE = (
    "model.vision_tower",
    "model.vision_model",
    "model.visual",
    "model.multi_modal_projector",
    "model.connector",
    "lm_head",
)


def check_quantization(config: Mapping[str, Any]) -> None:
    """Check that ``quantization`` of a ``conf/model`` mapping is possible on this machine.

    Raises:
        ParbenchError: It is not. Nothing has been loaded yet.
    """
    kind = config.get("quantization")
    if kind is None:
        return
    if kind not in KINDS:
        raise unknown("model.quantization", str(kind), KINDS)
    if config.get("weights") == "random" or config.get("llm_layers") is not None:
        raise ParbenchError(
            f"model.quantization={kind} quantises the weights of a checkpoint: leave it out with model.weights=random and "
            "model.llm_layers"
        )
    if config["dtype"] == "float32":
        raise ParbenchError(
            f"model.quantization={kind} computes in half precision: set model.dtype=float16 or model.dtype=bfloat16"
        )
    places = config.get("device_map")
    if isinstance(places, Mapping):
        waiting = {"cpu", "disk"} & set(places.values())
        if "disk" in waiting or (waiting and set(places.values()) != {"cpu"}):
            raise ParbenchError(
                f"model.quantization={kind} cannot offload weights to memory or disk: place all modules in model.device_map on GPUs"
            )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ParbenchError(
            f"model.quantization={kind} needs bitsandbytes: run make setup, or pip install -c requirements.lock bitsandbytes"
        )


def quantized(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that quantise the linear layers of the LLM; empty without ``quantization``.

    Args:
        config: A mapping as in ``conf/model``, checked.
        device: The device of the whole model if there is no ``device_map``.
    """
    kind = config.get("quantization")
    if kind is None:
        return {}
    from transformers import BitsAndBytesConfig

    # bitsandbytes warns for every layer and batch that its 8-bit kernels convert bfloat16 to float16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if kind == "bnb-8bit":
        chosen = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(_WHOLE))
    else:
        chosen = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=resolve_dtype(str(config["dtype"])),
            llm_int8_skip_modules=list(_WHOLE),
        )
    return {"quantization_config": chosen, "device_map": {"": device}}


def model_title(config: Mapping[str, Any]) -> str:
    """The title of a model in tables: its name and its quantisation."""
    kind = config.get("quantization")
    return f"{config['name']} {kind}" if kind else str(config["name"])
