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
# Small beside the LLM, and read by methods; the head decides between tokens.
_WHOLE = ("model.vision_tower", "model.multi_modal_projector", "lm_head")


def check_quantization(config: Mapping[str, Any]) -> None:
    """Whether a ``conf/model`` mapping's ``quantization`` can be had here.

    Raises:
        ParbenchError: It cannot; nothing has been loaded.
    """
    kind = config.get("quantization")
    if kind is None:
        return
    if kind not in KINDS:
        raise unknown("model.quantization", str(kind), KINDS)
    if config.get("weights") == "random" or config.get("llm_layers") is not None:
        raise ParbenchError(
            f"model.quantization={kind} makes the weights of a checkpoint smaller: leave it out with model.weights=random and "
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
                f"model.quantization={kind} keeps no weights waiting in memory or on disk: place all modules of "
                "model.device_map on cards"
            )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ParbenchError(
            f"model.quantization={kind} needs the extra quant: make setup, or pip install -c requirements.lock bitsandbytes"
        )


def quantized(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for the linear maps of the LLM's layers; none without ``quantization``.

    Args:
        config: A mapping as in ``conf/model``, checked.
        device: Where the whole model goes unless a ``device_map`` says more.
    """
    kind = config.get("quantization")
    if kind is None:
        return {}
    from transformers import BitsAndBytesConfig

    # It says for every layer of every batch that its 8-bit kernels take bfloat16 as float16.
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
    """What tables call a model: its name, and how its weights are quantised."""
    kind = config.get("quantization")
    return f"{config['name']} {kind}" if kind else str(config["name"])
