"""Refuses generation settings that do not work with a reduced prompt, before anything is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from parbench.api.call import VISION_INPUTS
from parbench.errors import ParbenchError

# The argument, a test of its value, and what to use instead.
_REFUSED: Sequence[tuple[str, Callable[[Any], bool], str]] = (
    ("num_beams", lambda value: value != 1, "beam search is not supported, so use num_beams=1, with or without do_sample"),
    ("assistant_model", bool, "assisted generation is not supported, so leave it out"),
    ("prompt_lookup_num_tokens", bool, "assisted generation is not supported, so leave it out"),
    ("assistant_early_exit", bool, "assisted generation is not supported, so leave it out"),
    ("use_mtp", bool, "assisted generation is not supported, so leave it out"),
    ("guidance_scale", lambda value: value != 1, "guidance runs a second prompt beside the first, so leave it out"),
    ("cache_implementation", lambda value: value != "dynamic", "the cache has to be a DynamicCache, so leave it out"),
    ("use_cache", lambda value: value is False, "the prompt is reduced once and kept in the cache, so leave it on"),
    ("prefill_chunk_size", bool, "the prompt is reduced as a whole, so leave it out"),
    (
        "past_key_values",
        lambda value: value.get_seq_length() > 0,
        "a conversation cannot go on from a cache, so give it as a whole in one prompt",
    ),
)


@dataclass(frozen=True)
class Generation:
    """The settings of a call of ``generate``, apart from the prompts.

    Attributes:
        copies: Number of sequences to generate for each prompt.
        inputs: The inputs of the vision tower by name, as ``generate`` was given them; empty outside of ``generate``.
    """

    copies: int = 1
    inputs: Mapping[str, Tensor] = field(default_factory=dict)


@contextmanager
def through(model: Any, ask: Callable[[Generation], None]) -> Iterator[None]:
    """While open, calls of ``model.generate`` are intercepted; on exit the method is restored.

    Settings that do not work with a reduced prompt are refused. Images are held back, because Hugging Face would run them
    through the vision tower before the model's forward gets them.

    Args:
        model: The model; only this object's method is wrapped, not that of its class.
        ask: Called with the settings of each ``generate``, and with empty ones when it has ended.
    """
    generate, before = model.generate, vars(model).get("generate")

    @functools.wraps(generate)
    def asked(*args: Any, **kwargs: Any) -> Any:
        config = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None) or model.generation_config
        refuse(kwargs, config)
        copies = _setting("num_return_sequences", kwargs, config) or 1
        # Hugging Face repeats some of them for several sequences.
        inputs = {name: kwargs[name] for name in VISION_INPUTS if kwargs.get(name) is not None}
        kwargs.pop("pixel_values", None)
        ask(Generation(copies, inputs))
        try:
            return generate(*args, **kwargs)
        finally:
            ask(Generation())

    model.generate = asked
    try:
        yield
    finally:
        del model.generate
        if before is not None:
            model.generate = before


def refuse(given: Mapping[str, Any], config: Any) -> None:
    """Refuse settings that do not work with a reduced prompt.

    Args:
        given: The arguments of ``generate``.
        config: The ``GenerationConfig``.

    Raises:
        ParbenchError: A setting does not work with a reduced prompt.
    """
    for name, asks, instead in _REFUSED:
        value = _setting(name, given, config)
        if value is not None and asks(value):
            shown = f"={value}" if isinstance(value, int | float | str) else ""
            raise ParbenchError(f"generate was given {name}{shown} inside parbench.reduce: {instead}")


def _setting(name: str, given: Mapping[str, Any], config: Any) -> Any:
    value = given.get(name)
    return getattr(config, name, None) if value is None else value
