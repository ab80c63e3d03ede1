"""The inputs of methods before the LLM. Each is computed when it is first read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.attention import received
from parbench.models.beside import pass_beside
from parbench.models.parts import Parts
from parbench.models.vision import READ_BLOCK, Encoded
from parbench.ops.components import main_loadings

# Power iterations of a decomposition, as torch.pca_lowrank has them.
_POWER_ROUNDS = 2
# Steps of a method with noise of their own.
_STEP_BITS = 20

if TYPE_CHECKING:
    from parbench.models.adapter import ModelAdapter
    from parbench.models.geometry import Geometry


# The tokens that show each of the things that a question is about.
Shown = tuple[frozenset[int], ...]


class Probes:
    """The inputs for a batch of B images, each with its own question.

    Attributes:
        encoded: Output of the vision tower.
        prompts: The B questions, without chat template.
        seeds: One number per image, from its content: the only randomness a method may use.
        evidence: For each image, the indices of the tokens that its question needs, thing by thing; None where it is not known.
            For the oracle alone: a method that reads it uses the answers of the data set.
        flops: FLOPs of the text encoder so far, by image. (Texts are cached between samples, so a FLOP counter would miss them.)
        computed: The part of ``flops`` that was not cached, which a FLOP counter around the method has counted.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        encoded: Encoded,
        prompts: Sequence[str],
        seeds: Sequence[int],
        evidence: Sequence[Shown | None] = (),
    ) -> None:
        self._adapter = adapter
        self.encoded = encoded
        self.prompts = list(prompts)
        self.seeds = list(seeds)
        self.evidence = list(evidence) or [None] * len(self.prompts)
        self.flops = [0] * len(self.prompts)
        self.computed = 0

    @property
    def geometry(self) -> Geometry:
        """The sizes of the model, and of these images in it."""
        return self._adapter.geometry.of_image(self.encoded.features.shape[1], self.encoded.grid, self.parts.frames)

    @property
    def parts(self) -> Parts:
        """How these images are cut into crops, tiles or frames. Images that come together are cut alike."""
        encoded = self.encoded
        return encoded.parts or Parts.whole(encoded.features.shape[1], encoded.grid)

    @property
    def cls(self) -> Tensor:
        """[B, C] the CLS token of the hidden state that the LLM reads.

        Raises:
            ParbenchError: The model's tower has none.
        """
        if self.encoded.cls is None:
            raise ParbenchError("the vision tower of this model gives no CLS token, which this method needs")
        return self.encoded.cls

    def saliency(self, block: int) -> Tensor:
        """Attention to each token in a vision block, [B, heads, N] in float64.

        It is that of CLS. In a tower without CLS it is the attention that a token receives, mean over all queries; where the
        connector joins patches, mean over those of a token.
        """
        encoded = self.encoded
        found = encoded.saliency.get(block, encoded.received.get(block))
        return self.cls_attention(block)[:, :, 1:] if found is None else found

    def raw_saliency(self, block: int) -> Tensor:
        """The same before the softmax, mean over heads, [B, N] in float64: scaled products of queries and keys."""
        found = self.encoded.raw_saliency.get(block)
        return self._cls_products(block).mean(1)[:, 1:] if found is None else found

    def received(self, block: int) -> Tensor:
        """Attention that each token receives in a vision block, mean over all queries, CLS among them, [B, heads, N] in float64.

        Where the connector joins patches, mean over those of a token.
        """
        found = self.encoded.received.get(block)
        if found is not None:
            return found
        key = self.head_keys(block)
        query = self.encoded.queries[block].view(key.shape[0], key.shape[2], key.shape[1], key.shape[3]).transpose(1, 2)
        return received(query, key, key.shape[3] ** -0.5)[:, :, 1:]

    def token_keys(self, block: int) -> Tensor:
        """Keys of a vision block by head without CLS, [B, heads, N, d] in float64; mean over the patches of a token."""
        found = self.encoded.token_keys.get(block)
        return self.head_keys(block)[:, :, 1:] if found is None else found.double()

    def cls_attention(self, block: int) -> Tensor:
        """Attention of CLS in a vision block after the softmax, [B, heads, N + 1] in float64; column 0 is CLS."""
        found: Tensor = self._cls_products(block).softmax(-1)
        return found

    def _cls_products(self, block: int) -> Tensor:
        """Scaled products of the query of CLS and all keys, [B, heads, N + 1] in float64."""
        key = self.head_keys(block)
        query = self.encoded.queries[block][:, 0].double().view(*key.shape[:2], 1, key.shape[3])
        found: Tensor = (query @ key.transpose(2, 3) * key.shape[3] ** -0.5)[:, :, 0]
        return found

    def head_keys(self, block: int) -> Tensor:
        """Keys of a vision block by head, [B, heads, N + 1, d] in float64; token 0 is CLS."""
        keys, heads = self.encoded.keys[block].double(), self._adapter.vision_heads
        return keys.view(*keys.shape[:2], heads, keys.shape[2] // heads).transpose(1, 2)

    def beside(self, tokens: Tensor) -> Tensor:
        """The states [B, g, C] behind the read block of tokens [g, C] that pass a CLIP tower beside each image.

        The image's own tokens do not see them. The result has the dtype of the tokens: float64 in evaluation. A method that calls
        this names all blocks up to the read one as ``WithValues``.
        """
        encoded, exact = self.encoded, tokens.dtype == torch.float64
        layers = self._adapter.exact_blocks if exact else self._adapter.read_blocks
        heads = self._adapter.vision_heads

        def by_head(flat: Tensor) -> Tensor:
            return flat.to(tokens.dtype).view(*flat.shape[:2], heads, -1).transpose(1, 2)

        keys, values = ([by_head(found[block]) for block in range(len(layers))] for found in (encoded.keys, encoded.values))
        return pass_beside(layers, tokens.expand(len(encoded.features), -1, -1), keys, values)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the model's checkpoint."""
        return self._adapter.fingerprint

    @cached_property
    def clip_patches(self) -> Tensor:
        """Patches in CLIP's joint space, [B, N, p], not normalised."""
        return self._adapter.clip_space.patches(self.encoded.features)

    @cached_property
    def llm_patches(self) -> Tensor:
        """Patches as the LLM would get them, [B, N, d]."""
        features = self.encoded.features
        return features if self.encoded.projected else self._adapter.project(features)

    def clip_text(self, image: int, texts: Sequence[str], *, whole: bool = False) -> Tensor:
        """Embeddings of texts in CLIP's joint space, [T, p], not normalised. Their FLOPs are counted for ``image``.

        A text longer than the encoder's context is truncated; with ``whole`` it is read in segments, one row each.
        """
        embedded, flops, computed = self._adapter.clip_space.text(texts, whole=whole)
        self.flops[image] += sum(flops)
        self.computed += computed
        return embedded

    def llm_text(self, text: str) -> Tensor:
        """Input embeddings of a text's tokens in the LLM, [T, d]."""
        ids = self._adapter.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[0]
        # Without any token, ids have no integer type.
        return self._adapter.embed(ids.long().to(self._adapter.device))

    @property
    def padding(self) -> Tensor | None:
        """[B, N] bool, tokens that show nothing but the padding of a picture.

        None: no family here has such tokens. Their processors crop or resize pictures, or drop the tokens of padding.
        """
        return None

    def noise(self, seed: int = 0) -> Tensor:
        """Uniform noise [B, N], drawn on the CPU from each image's content and ``seed``."""
        features = self.encoded.features
        return image_noise(self.seeds, features.shape[1], seed).to(features.device)

    def frame_vectors(self, tokens: Tensor, _clip: int) -> Tensor:
        """[F, d] a vector for each frame of a clip of the batch: the mean of its tokens [F, N, d]."""
        return tokens.double().mean(1)

    def draw(self, clip: int, seed: int, step: int, count: int) -> Tensor:
        """Uniform noise [count] for a step of a method, from the content of a clip of the batch and ``seed``."""
        return image_noise([self.seeds[clip]], count, (seed << _STEP_BITS) + step)[0]

    def loadings(self, count: int, seed: int = 0) -> Tensor:
        """Loadings of the tokens on the main components of the sigmoid of features, each token centred, [B, N, count] in float64.

        Each image is decomposed by itself, by random projection from its content and ``seed``.
        """
        features = self.encoded.features
        size, device = features.shape[1], features.device
        found = []
        for one, image in zip(features, self.seeds, strict=True):
            values = one.double().sigmoid()
            start = image_noise([image], size * count, seed)[0].to(device) - 0.5
            found.append(main_loadings((values - values.mean(1, keepdim=True)).T, start.view(size, count), _POWER_ROUNDS))
        return torch.stack(found)


def image_noise(images: Sequence[int], count: int, seed: int) -> Tensor:
    """Uniform noise [B, count] in float64 on the CPU, seeded by the number of each image (from its content) and ``seed``."""
    drawn = []
    for image in images:
        digest = hashlib.sha256(f"{image} {seed}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        drawn.append(torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.stack(drawn)


# Methods name the block from here.
__all__ = ["READ_BLOCK", "Probes", "image_noise"]
