"""FLOPs of an LLM's prefill by the conventions of papers on visual-token reduction.

All of them count attention as dense and omit the vision tower, the projector, method overhead, norms and everything after the first
token. They differ in three choices: multiply-adds or FLOPs (2 per multiply-add), two or three FFN matrices (Llama has three), and
which tokens count. With n tokens in a layer of width d and FFN width m, the four projections of attention are 4nd^2 multiply-adds,
its two products 2n^2d, and each FFN matrix ndm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """An LLM's sizes.

    Attributes:
        width: Width d of the hidden states.
        inner: Width m of the FFN.
        vocabulary: Rows of the LLM head.
        queries: Width of the queries of all heads; 0: the width.
        keys: Width of the keys of all key heads, less than that of the queries with grouped-query attention; 0: the width.
    """

    width: int
    inner: int
    vocabulary: int
    queries: int = 0
    keys: int = 0


@dataclass(frozen=True)
class Tokens:
    """Tokens of a prompt with an image. Averages over prompts may be fractional.

    Attributes:
        visual: Visual tokens that enter each layer.
        after: Text tokens after the image.
        system: Text tokens before the image.
    """

    visual: Sequence[float]
    after: float = 0
    system: float = 0


Convention = Callable[[Sizes, Tokens], float]


def sizes_of(config: Any) -> Sizes:
    """The sizes of the LLM in the Hugging Face configuration of a model."""
    text = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
    return Sizes(text.hidden_size, text.intermediate_size, text.vocab_size, queries, keys)


def _layers(sizes: Sizes, lengths: Iterable[float], matrices: int) -> float:
    """Multiply-adds of layers with these sequence lengths and ``matrices`` FFN matrices."""
    d, m = sizes.width, sizes.inner
    return sum(4 * n * d * d + 2 * n * n * d + matrices * n * d * m for n in lengths)


def true(sizes: Sizes, tokens: Tokens) -> float:
    """The computation of an LLM: 2 (4nd^2 + 2n^2d + 3ndm) per layer, n = all tokens, plus head.

    The closed form of parbench's count by fvcore. AIM counts in the same way, without the head. Unlike the other conventions it
    knows widths q of queries and k of keys other than d: 2nd(q + k) for the projections, and 2n^2q.
    """
    text, d = tokens.after + tokens.system, sizes.width
    queries, keys = sizes.queries or d, sizes.keys or d
    lengths = [n + text for n in tokens.visual]
    layers = sum(2 * n * d * (queries + keys) + 2 * n * n * queries + 3 * n * d * sizes.inner for n in lengths)
    return 2 * (layers + d * sizes.vocabulary)


def pyramiddrop(sizes: Sizes, tokens: Tokens) -> float:
    """PyramidDrop (arXiv 2410.17247), VScan, CDPruner: 4nd^2 + 2n^2d + 3ndm, n = visual tokens.

    Multiply-adds. Text, head and the attention between visual and text tokens are omitted.
    """
    return _layers(sizes, tokens.visual, 3)


def fastv(sizes: Sizes, tokens: Tokens) -> float:
    """FastV (arXiv 2403.06764): 4nd^2 + 2n^2d + 2ndm, n = all tokens. The paper prints the average layer.

    Multiply-adds. The third FFN matrix and the head are omitted.
    """
    text = tokens.after + tokens.system
    return _layers(sizes, (n + text for n in tokens.visual), 2)


def sparsevlm(sizes: Sizes, tokens: Tokens) -> float:
    """SparseVLM (arXiv 2410.04417): 4nd^2 + 2n^2d + 3ndm, n = all tokens.

    Multiply-adds. The head is omitted.
    """
    text = tokens.after + tokens.system
    return _layers(sizes, (n + text for n in tokens.visual), 3)


def divprune(sizes: Sizes, tokens: Tokens) -> float:
    """DivPrune (arXiv 2503.02175): 4nd^2 + 2n^2d + 2ndm, n = visual tokens and the question's.

    Multiply-adds. The third FFN matrix, the system prompt and the head are omitted. The paper prints a minus before the squared
    term; its code has a plus.
    """
    return _layers(sizes, (n + tokens.after for n in tokens.visual), 2)


# By name; the first is parbench's.
CONVENTIONS: dict[str, Convention] = {
    "true": true,
    "pyramiddrop": pyramiddrop,
    "fastv": fastv,
    "sparsevlm": sparsevlm,
    "divprune": divprune,
}
