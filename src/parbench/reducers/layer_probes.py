"""The inputs of methods inside the LLM. Each is computed when it is first read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parbench.models.attention import AttentionInputs, position_bias
from parbench.models.counting import add_flops
from parbench.ops.selection import compact
from parbench.reducers.token_probes import image_noise

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry


@dataclass(frozen=True)
class Layout:
    """Which token is at each place of a batch at some layer, and where the E images of the batch are.

    Attributes:
        mask: [B, S] int64, 1 for tokens, 0 for padding.
        positions: [B, S, P] position ids.
        image: [B, S] index of the image within its row; -1 for text and padding.
        patch: [B, S] the patch of a visual token; -1 elsewhere.
        source: [B, S] index of a visual token within its image on entering the LLM; -1 elsewhere.
        row: [E] row of each image.
        number: [E] index of each image within its row.
    """

    mask: Tensor
    positions: Tensor
    image: Tensor
    patch: Tensor
    source: Tensor
    row: Tensor
    number: Tensor

    @staticmethod
    def start(mask: Tensor, positions: Tensor, image: Tensor, patch: Tensor) -> Layout:
        """The layout of rows on entering the LLM."""
        count = image.amax(1) + 1
        numbers = torch.arange(int(count.max()), device=image.device)
        row, number = (numbers[None] < count[:, None]).nonzero(as_tuple=True)
        source = torch.full_like(image, -1)
        for each in numbers:
            mine = image == each
            source = torch.where(mine, mine.cumsum(1) - 1, source)
        return Layout(mask, positions, image, patch, source, row, number)

    def extended(self, length: int, positions: Tensor) -> Layout:
        """The layout with generated text tokens appended, up to ``length`` columns."""
        more = length - self.mask.shape[1]
        mask = torch.nn.functional.pad(self.mask, (0, more), value=1)
        image, patch, source = (
            torch.nn.functional.pad(value, (0, more), value=-1) for value in (self.image, self.patch, self.source)
        )
        return Layout(mask, positions, image, patch, source, self.row, self.number)

    @cached_property
    def visual(self) -> tuple[Tensor, Tensor]:
        """The columns of each image's tokens [E, N], padded at the end, and [E, N] bool, False for padding."""
        return _columns(self.image[self.row] == self.number[:, None])

    @cached_property
    def text(self) -> tuple[Tensor, Tensor]:
        """The columns of the text tokens after each image [E, T], padded at the end, and [E, T] bool, False for padding."""
        places = torch.arange(self.mask.shape[1], device=self.mask.device)
        index, valid = self.visual
        last = index.masked_fill(~valid, -1).amax(1) if index.shape[1] else torch.full_like(self.row, -1)
        return _columns((self.mask[self.row] == 1) & (self.image[self.row] == -1) & (places > last[:, None]))


def _columns(member: Tensor) -> tuple[Tensor, Tensor]:
    index, counts = compact(member)
    return index, torch.arange(index.shape[1], device=index.device)[None] < counts[:, None]


@dataclass(frozen=True)
class Before:
    """What happened in the layer before a pruning stage, on that layer's device.

    Attributes:
        attention: Queries and keys.
        position_embeddings: Cosines and sines of the rotary positions, [B, S', head width] each.
        attention_input: [B, S', d] input of the attention, after its norm.
        mlp_input: [B, S', d] input of the MLP, after its norm.
        layer_input: [B, S', d] input of the layer, before any norm.
    """

    attention: AttentionInputs
    position_embeddings: tuple[Tensor, Tensor]
    attention_input: Tensor
    mlp_input: Tensor
    layer_input: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> Before:
        """The same with other rows and columns: ``move`` maps values [B, S', ...] to those at the new places."""
        cosines, sines = self.position_embeddings
        turned = (move(cosines), move(sines))
        states = (self.attention_input, self.mlp_input, self.layer_input)
        return Before(self.attention.moved(move), turned, *(move(state) for state in states))


@dataclass(frozen=True)
class View:
    """The batch before a pruning stage, by its E images. N is the largest number of tokens that an image still has.

    Attributes:
        geometry: The model's sizes.
        stage: Index of the stage, from 0.
        layout: Layout of the tokens before the stage.
        begin: Layout on entering the LLM.
        embeds: [B, S, d] input embeddings of the LLM.
        entering: [B, S', d] hidden states that would enter the layer.
        before: The previous layer.
        itself: Returns the attention inputs of the layer itself; without its queries, which then mean nothing, if it gets False.
        unturned: Returns them as they are before queries and keys are turned by rotary positions.
        norm: Returns hidden states [..., d] behind the final norm of the LLM.
        seeds: One number per image, from its content.
        words: [B, S] kind of each text token on entering the LLM; None if the method did not ask for it.
    """

    geometry: Geometry
    stage: int
    layout: Layout
    begin: Layout
    embeds: Tensor
    entering: Tensor
    before: Before
    itself: Callable[..., AttentionInputs]
    unturned: Callable[[], AttentionInputs]
    norm: Callable[[Tensor], Tensor]
    seeds: Sequence[int]
    words: Tensor | None = None

    def of_images(self, images: Tensor) -> View:
        """The view of some of the E images [M], in the same batch."""
        layouts = [replace(layout, row=layout.row[images], number=layout.number[images]) for layout in (self.layout, self.begin)]
        return replace(self, layout=layouts[0], begin=layouts[1], seeds=[self.seeds[image] for image in images.tolist()])

    @property
    def valid(self) -> Tensor:
        """[E, N] bool: False for padding of images with fewer tokens."""
        return self.layout.visual[1]

    @property
    def patch(self) -> Tensor:
        """[E, N] the patch of each visual token."""
        return self.at_tokens(self.layout.patch)

    @property
    def hidden(self) -> Tensor:
        """[E, N, d] hidden states of the visual tokens that would enter the layer."""
        return self.at_tokens(self.entering)

    def at_tokens(self, values: Tensor) -> Tensor:
        """Values [B, S', ...] at the visual tokens, [E, N, ...]. The values may be on another device than the layout."""
        return values.to(self.layout.row.device)[self.layout.row[:, None], self.layout.visual[0]]

    @cached_property
    def last_attention(self) -> Tensor:
        """Attention of the last prompt token to each visual token in the previous layer, [E, heads, N] in float64."""
        return self._last(self.before.attention)

    @cached_property
    def own_attention(self) -> Tensor:
        """Attention of the last prompt token in the layer itself if nothing were dropped, [E, heads, N] in float64."""
        return self._last(self.itself())

    def _last(self, inputs: AttentionInputs) -> Tensor:
        end = torch.full_like(self.layout.row, self.layout.mask.shape[1] - 1)[:, None]
        return self._to_visual(self._rows(inputs, end))[:, :, 0]

    def _rows(self, inputs: AttentionInputs, column: Tensor) -> Tensor:
        """Attention weights of the queries at ``column`` [E, Q].

        The method's work includes the projection of these queries: no kernel hands them out.
        """
        add_flops(2 * column.numel() * self.embeds.shape[-1] * inputs.queries.shape[1] * inputs.queries.shape[3])
        return inputs.rows(self.layout.mask, self.layout.row, column)

    def text_attention(self, chosen: Tensor, *, own: bool = False) -> tuple[Tensor, Tensor]:
        """Attention of some text tokens after the image to each visual token in the previous layer.

        Args:
            chosen: [E, T] bool, the text tokens after each image to use.
            own: Whether the attention is that of the layer itself if nothing were dropped.

        Returns:
            [E, heads, R, N] in float64, padded over R; [E, R] bool, False for padding.
        """
        index, valid = _columns(chosen)
        columns = self.layout.text[0].gather(1, index)
        return self._to_visual(self._rows(self.itself() if own else self.before.attention, columns)), valid

    def position_bias(self, chosen: Tensor) -> Tensor:
        """Attention logits of the chosen text tokens to visual ones due to rotary positions alone, [E, R, N]."""
        columns = self.layout.text[0].gather(1, _columns(chosen)[0])
        bias = position_bias(self.before.position_embeddings, self.before.attention.scaling, self.layout.row, columns)
        return self._to_visual(bias[:, None])[:, 0]

    def _to_visual(self, values: Tensor) -> Tensor:
        index = self.layout.visual[0][:, None, None].expand(*values.shape[:3], -1)
        return values.gather(3, index)

    @cached_property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input embeddings: visual ones [E, M, d] with mask [E, M], text after the image [E, T, d] with mask [E, T]."""
        rows = self.begin.row[:, None]
        (visual, seen), (text, read) = self.begin.visual, self.begin.text
        return self.embeds[rows, visual], seen, self.embeds[rows, text], read

    def noise(self, seed: int = 0) -> Tensor:
        """Uniform noise [E, N], drawn on the CPU from each image's content and ``seed``."""
        return image_noise(self.seeds, self.valid.shape[1], seed).to(self.layout.mask.device)
