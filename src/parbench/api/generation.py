"""Ways of generating that a reduced prompt does not go with, refused before anything is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from parbench.errors import ParbenchError

# What asks for it, whether a value does, and what is to be done instead.
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
    """What a ``generate`` asks for, apart from the prompts.

    Attributes:
        copies: Sequences that are generated for each prompt.
        pixels: [images, 3, H, W]; None without images, or outside of ``generate``.
    """

    copies: int = 1
    pixels: Tensor | None = None


@contextmanager
def through(model: Any, ask: Callable[[Generation], None]) -> Iterator[None]:
    """While open, ``model.generate`` goes this way; afterwards it is as before.

    What a reduced prompt does not go with is refused. Images are held back: Hugging Face would run them through the vision tower
    before the model's forward gets them.

    Args:
        model: The model; the method of this object alone is wrapped, not that of its class.
        ask: Told what a ``generate`` asks for, and an empty one when it has ended.
    """
    generate, before = model.generate, vars(model).get("generate")

    @functools.wraps(generate)
    def asked(*args: Any, **kwargs: Any) -> Any:
        config = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None) or model.generation_config
        refuse(kwargs, config)
        copies = _setting("num_return_sequences", kwargs, config) or 1
        ask(Generation(copies, kwargs.pop("pixel_values", None)))
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
    """Refuse a generation.

    Args:
        given: The arguments of ``generate``.
        config: Its ``GenerationConfig``.

    Raises:
        ParbenchError: One of them asks for something that does not go with a reduced prompt.
    """
    for name, asks, instead in _REFUSED:
        value = _setting(name, given, config)
        if value is not None and asks(value):
            shown = f"={value}" if isinstance(value, int | float | str) else ""
            raise ParbenchError(f"generate was given {name}{shown} inside parbench.reduce: {instead}")


def _setting(name: str, given: Mapping[str, Any], config: Any) -> Any:
    value = given.get(name)
    return getattr(config, name, None) if value is None else value
