"""FLOPs at a given budget, from a model's sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from parbench.api.methods import method as method_called
from parbench.api.models import settings_of
from parbench.errors import unknown

if TYPE_CHECKING:
    import pandas as pd

_PLACES = ("before_projector", "after_projector")


def flops(
    model: str = "llava-1.5-7b",
    tokens: float | Sequence[float] = (576, 64),
    text: int | Sequence[int] = 60,
    *,
    method: str | None = None,
    place: str = "after_projector",
    image: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """FLOPs of one image and a prompt up to the first token of the answer; no weights are needed.

    Args:
        model: A name in ``conf/model``, or the folder of a checkpoint.
        tokens: Kept visual tokens, or shares of the image's below 1; one number or several.
        text: Text tokens of the prompt, one number or several.
        method: A name in ``conf/method``; None for a method at ``place`` without overhead.
        place: ``before_projector`` or ``after_projector``, if no method is named.
        image: Width and height of the image in pixels, for models whose number of visual tokens depends on it; None for 672 x 672.

    Returns:
        One row for each number of visual and text tokens, with the columns of ``parbench flops --json``: ``model``, ``method``,
        ``tokens``, ``text``, ``vision``, ``projector``, ``reducer``, ``llm_prefill``, ``total``; 2 FLOPs per multiply-add. If the
        number of visual tokens depends on the image, also ``image`` and ``visual``, the image's tokens without reduction.

    Raises:
        ParbenchError: A name is unknown, or a number is invalid.
    """
    import pandas as pd

    from parbench.compute.predict import Prompt, predict

    if place not in _PLACES:
        raise unknown("place", place, _PLACES)
    settings = settings_of(model)
    rows = []
    for length in [text] if isinstance(text, int) else text:
        for count in [tokens] if isinstance(tokens, int | float) else tokens:
            reducer = None if method is None else method_called(method, budget=count)
            rows.append(predict(settings, reducer, count, Prompt(length, image=image), place))
    return pd.DataFrame(rows)
