"""FLOPs by fvcore, part by part, from the token counts of a run.

Convention: 2 FLOPs per multiply-add (fvcore counts multiply-adds, which are doubled here). Matrix products, convolution and
attention are counted; elementwise operations are not. Causal attention counts as dense, as kernels without block skipping compute
it. Every vision block that runs is counted, whether its output is used or not. The LLM's head runs on the last token only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from parbench.engine.ledger import SampleLedger

CONVENTION = "2 FLOPs per multiply-add; attention dense; elementwise work left out; head on the last token"


@dataclass(frozen=True)
class Curve:
    """FLOPs of a transformer block over its sequence length: ``linear * n + square * n**2``."""

    linear: int
    square: int

    def __call__(self, length: int, attended: int | None = None) -> int:
        """FLOPs at a sequence length; ``attended`` is the sequence length of attention, if it differs."""
        reach = length if attended is None else attended
        return self.linear * length + self.square * reach * reach


@dataclass(frozen=True)
class Costs:
    """Costs of the parts of a model in FLOPs.

    Attributes:
        embed: Patch embedding, for one patch.
        block: One vision block.
        mlp: The part of a vision block after attention, for one token.
        blocks: Number of vision blocks.
        project: Projector, for one token.
        layer: One LLM layer at prefill.
        layers: Number of LLM layers.
        head: LLM head, for one token.
    """

    embed: int
    block: Curve
    mlp: int
    blocks: int
    project: int
    layer: Curve
    layers: int
    head: int

    def vision(self, images: Sequence[Sequence[int]]) -> int:
        """FLOPs of the vision tower, from the tokens of each image that enter each block and leave the last one, including CLS.

        A block merges between attention and MLP, so its MLP has as many tokens as the next block.
        """
        total = 0
        for lengths in images:
            total += self.embed * (lengths[0] - 1)
            for entering, leaving in pairwise(lengths):
                total += self.block(entering) - self.mlp * (entering - leaving)
        return total

    def prefill(self, lengths: Sequence[int], attended: Sequence[int] = ()) -> int:
        """FLOPs of the LLM over a prompt, from the tokens that enter each layer and, if it differs, the length of its attention."""
        return sum(self.layer(*pair) for pair in zip(lengths, attended or lengths, strict=True)) + self.head

    def decode(self, lengths: Sequence[int], generated: int) -> int:
        """FLOPs after the first token; a new token attends to the KV cache and to itself."""
        steps = max(0, generated - 1)
        keys = sum(steps * length + steps * (steps + 1) // 2 for length in lengths)
        return steps * (len(lengths) * self.layer.linear + self.head) + self.layer.square * keys


def count(module: nn.Module, *inputs: Tensor) -> int:
    """FLOPs of a module by fvcore, including attention kernels.

    Args:
        module: A traceable module; on the meta device nothing is computed.
        inputs: Its positional inputs.
    """
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
    # fvcore counts LayerNorm, but not the RMSNorm of an LLM. Both are elementwise and omitted.
    analysis.set_op_handle("aten::layer_norm", lambda _inputs, _outputs: 0)
    return 2 * int(analysis.total())


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of q @ k and weights @ v, which fvcore does not count."""
    from fvcore.nn.jit_handles import get_shape

    batch, heads, queries, width = get_shape(inputs[0])
    keys, out = get_shape(inputs[1])[2], get_shape(inputs[2])[3]
    count: int = batch * heads * queries * keys * (width + out)
    return count


def _curve(measure: Callable[[int], int]) -> Curve:
    # FLOPs are a linear plus a quadratic term, so two lengths determine both.
    short, long = 64, 128
    square, rest = divmod(measure(long) * short - measure(short) * long, short * long * (long - short))
    linear, rest_linear = divmod(measure(short) - square * short * short, short)
    if rest or rest_linear:
        raise ValueError("this block's FLOPs are not a n + b n^2 in its sequence length")
    return Curve(linear, square)


class _Layer(nn.Module):
    """An LLM layer with positional inputs, for tracing."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        output = self.layer(hidden, position_embeddings=(cos, sin))
        found: Tensor = output[0] if isinstance(output, tuple) else output
        return found


class _Block(nn.Module):
    """A vision block with positional inputs, for tracing."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: Tensor) -> Tensor:
        output = self.block(hidden, attention_mask=None)
        found: Tensor = output[0] if isinstance(output, tuple) else output
        return found


def costs(config: Any) -> Costs:
    """Costs of the parts of a LLaVA with this ``LlavaConfig``. No weights are needed."""
    return _costs(config.to_json_string(use_diff=False))


@lru_cache(maxsize=8)
def _costs(text: str) -> Costs:
    import json

    from transformers import LlavaConfig
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    config = LlavaConfig.from_dict(json.loads(text))
    vision, llm = config.vision_config, config.text_config
    vision._attn_implementation = llm._attn_implementation = "sdpa"
    head_width = getattr(llm, "head_dim", None) or llm.hidden_size // llm.num_attention_heads
    with torch.device("meta"), torch.no_grad():
        clip = CLIPEncoderLayer(vision)
        layer, block = _Layer(LlamaDecoderLayer(llm, 0)), _Block(clip)
        projector = LlavaMultiModalProjector(config)
        # A convolution without overlap is a linear layer per patch. conv2d cannot be traced on the meta device.
        embed = nn.Linear(vision.num_channels * vision.patch_size**2, vision.hidden_size, bias=False)

        def prefill(length: int) -> int:
            position_embeddings = torch.empty(1, length, head_width)
            return count(layer, torch.empty(1, length, llm.hidden_size), position_embeddings, position_embeddings)

        return Costs(
            embed=count(embed, torch.empty(1, embed.in_features)),
            block=_curve(lambda length: count(block, torch.empty(1, length, vision.hidden_size))),
            mlp=count(clip.mlp, torch.empty(1, 1, vision.hidden_size)),
            blocks=vision.num_hidden_layers,
            project=count(projector, torch.empty(1, 1, vision.hidden_size)),
            layer=_curve(prefill),
            layers=llm.num_hidden_layers,
            head=count(nn.Linear(llm.hidden_size, llm.vocab_size, bias=False), torch.empty(1, llm.hidden_size)),
        )


def sample_flops(cost: Costs, ledger: SampleLedger) -> dict[str, int]:
    """FLOPs of one sample by part.

    Args:
        cost: Costs of the model's parts.
        ledger: Token counts of the sample.

    Returns:
        vision, projector, reducer (method overhead), llm_prefill, decode (after the first token), total.
    """
    if ledger.cached:
        decode = cost.decode(ledger.attended or ledger.layers, ledger.generated)
    else:
        decode = sum(cost.prefill([n + more for n in ledger.layers]) for more in range(1, ledger.generated))
    parts = {
        "vision": cost.vision(ledger.tower),
        "projector": cost.project * ledger.projector,
        "reducer": ledger.reducer_flops,
        "llm_prefill": cost.prefill(ledger.layers, ledger.attended) - ledger.skipped,
        "decode": decode,
    }
    return {**parts, "total": sum(parts.values())}
