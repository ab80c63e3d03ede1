"""FLOPs of an LLM's prefill as papers on visual tokens count them, each formula by itself.

All of them take attention as dense and leave out the vision tower, the projector, a method's own work, norms and everything after
the
first token. They differ in three choices: multiply-adds or FLOPs (2 a multiply-add), two or three FFN matrices (Llama has three),
and
whose tokens count. With n tokens in a layer of width d and FFN width m, attention's four projections are 4nd^2 multiply-adds, its
two products 2n^2d, and each FFN matrix ndm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """An LLM's sizes.

    Attributes:
        width: d.
        inner: m.
        vocabulary: Rows of the head.
    """

    width: int
    inner: int
    vocabulary: int


@dataclass(frozen=True)
class Tokens:
    """Tokens of a prompt with an image; averages over prompts may be fractions.

    Attributes:
        visual: Visual tokens that enter each layer.
        behind: Text tokens behind the image.
        system: Text tokens before it.
    """

    visual: Sequence[float]
    behind: float = 0
    system: float = 0


Convention = Callable[[Sizes, Tokens], float]


def sizes_of(config: Any) -> Sizes:
    """The LLM's sizes in a ``LlavaConfig``."""
    text = config.text_config
    return Sizes(text.hidden_size, text.intermediate_size, text.vocab_size)


def _layers(sizes: Sizes, lengths: Iterable[float], matrices: int) -> float:
    """Multiply-adds of layers with those lengths and so many FFN matrices."""
    d, m = sizes.width, sizes.inner
    return sum(4 * n * d * d + 2 * n * n * d + matrices * n * d * m for n in lengths)


def true(sizes: Sizes, tokens: Tokens) -> float:
    """What an LLM without grouped-query attention computes: 2 (4nd^2 + 2n^2d + 3ndm) a layer, n = all tokens, and the head.

    The closed form of what fvcore counts here. AIM counts so too, without the head.
    """
    text = tokens.behind + tokens.system
    return 2 * (_layers(sizes, (n + text for n in tokens.visual), 3) + sizes.width * sizes.vocabulary)


def pyramiddrop(sizes: Sizes, tokens: Tokens) -> float:
    """PyramidDrop (arXiv 2410.17247), VScan, CDPruner: 4nd^2 + 2n^2d + 3ndm, n = visual tokens.

    Multiply-adds; text and head are left out, and so is that visual and text tokens attend to one another.
    """
    return _layers(sizes, tokens.visual, 3)


def fastv(sizes: Sizes, tokens: Tokens) -> float:
    """FastV (arXiv 2403.06764): 4nd^2 + 2n^2d + 2ndm, n = all tokens. The paper prints the average layer.

    Multiply-adds; the third FFN matrix and the head are left out.
    """
    text = tokens.behind + tokens.system
    return _layers(sizes, (n + text for n in tokens.visual), 2)


def sparsevlm(sizes: Sizes, tokens: Tokens) -> float:
    """SparseVLM (arXiv 2410.04417): 4nd^2 + 2n^2d + 3ndm, n = all tokens.

    Multiply-adds; the head is left out.
    """
    text = tokens.behind + tokens.system
    return _layers(sizes, (n + text for n in tokens.visual), 3)


def divprune(sizes: Sizes, tokens: Tokens) -> float:
    """DivPrune (arXiv 2503.02175): 4nd^2 + 2n^2d + 2ndm, n = visual tokens and the question's.

    Multiply-adds; the third FFN matrix, the system prompt and the head are left out. The paper's text prints a minus before the
    squared term, its code has the plus.
    """
    return _layers(sizes, (n + tokens.behind for n in tokens.visual), 2)


# By name; the first is ours.
CONVENTIONS: dict[str, Convention] = {
    "true": true,
    "pyramiddrop": pyramiddrop,
    "fastv": fastv,
    "sparsevlm": sparsevlm,
    "divprune": divprune,
}
