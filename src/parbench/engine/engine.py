"""Runs samples through a model with a reducer: encode, reduce, prefill, decode, and account for it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from parbench.compute.ledger import SampleLedger
from parbench.engine.decode import Generated, greedy
from parbench.engine.install import install
from parbench.engine.layers import Trace
from parbench.engine.samples import Answer, Kept, Sample
from parbench.engine.sequence import Visual, build_rows
from parbench.errors import ParbenchError
from parbench.models.adapter import LlavaAdapter
from parbench.models.counting import own_flops
from parbench.models.vision import Encoded
from parbench.reducers.base import (
    LayerReducer,
    MaskReducer,
    PixelReducer,
    Provenance,
    Reducer,
    Reduction,
    TokenReducer,
    TowerReducer,
)
from parbench.reducers.none import Unreduced
from parbench.reducers.probes import Probes


@dataclass(frozen=True)
class _Pictures:
    """The images of a block: encoded once each, and where each sample's are.

    Attributes:
        encoded: What the tower gave.
        seeds: One number an image, from its pixels.
        of: For each sample of the block, the numbers of its images.
    """

    encoded: Encoded | None
    seeds: list[int]
    of: list[list[int]]


class Engine:
    """A model with a reducer, ready to answer blocks of samples.

    Args:
        adapter: The model.
        reducer: The method; checked against the model here.
        share: Encode an image once for all samples of a block. Off, each sample's images are encoded with its batch, as
            Hugging Face does: then keep-all is the untouched model bit for bit on the same batch.
    """

    def __init__(self, adapter: LlavaAdapter, reducer: Reducer, *, share: bool = True) -> None:
        reducer.check(adapter.geometry)
        self.adapter = adapter
        self.reducer = reducer
        self.share = share
        self._plain = Unreduced(name="none")
        # What acts between the vision tower and the LLM.
        first = reducer.before(adapter.geometry) if isinstance(reducer, LayerReducer) else reducer
        self._outside = first if isinstance(first, TokenReducer) else self._plain
        self._unmerges = isinstance(reducer, TowerReducer) and reducer.unmerges

    @torch.inference_mode()
    def answer(self, samples: Sequence[Sample], batches: Sequence[Sequence[int]]) -> list[Answer]:
        """Answer a block.

        Args:
            samples: All samples of the run.
            batches: The block: numbers of samples, batch by batch.

        Returns:
            One answer a sample, in the block's order. A batch that fails is tried again sample by sample, so that only the
            failing sample fails.

        Raises:
            ParbenchError: Something that a person has to put right: an image that cannot be read, too long a prompt.
        """
        pictures: dict[int, list[Image.Image]] = {}
        loaded: dict[str, list[Image.Image]] = {}
        for number in (n for batch in batches for n in batch):
            sample = samples[number]
            # Samples of a group share their images, which are then the same objects and encoded once.
            if not self.share or sample.group not in loaded:
                loaded[sample.group] = sample.load()
            pictures[number] = loaded[sample.group]
        numbers = list(pictures)
        begun = time.perf_counter()
        with _memory():
            encoded = self._encode([pictures[n] for n in numbers]) if self.share else None
        spent = time.perf_counter() - begun
        answers = []
        for batch in batches:
            chosen = [samples[n] for n in batch]
            begun = time.perf_counter()
            where = [numbers.index(n) for n in batch]
            with _memory():
                here = encoded or self._encode([pictures[n] for n in batch])
                mine = _Pictures(here.encoded, here.seeds, [here.of[w] for w in where] if encoded else here.of)
                found = self._batch_or_single(chosen, mine)
            seconds = (time.perf_counter() - begun) / len(batch) + spent / len(numbers)
            answers += [Answer(**{**vars(answer), "seconds": seconds}) for answer in found]
        return answers

    def _encode(self, images: Sequence[Sequence[Image.Image]]) -> _Pictures:
        unique: dict[int, int] = {}
        order: list[Image.Image] = []
        of = []
        for row in images:
            numbers = []
            for image in row:
                if not self.share or id(image) not in unique:
                    unique[id(image)] = len(order)
                    order.append(image)
                numbers.append(unique[id(image)])
            of.append(numbers)
        if not order:
            return _Pictures(None, [], of)
        return _Pictures(self.encode(order), [image_seed(image) for image in order], of)

    def encode(self, images: Sequence[Image.Image]) -> Encoded:
        """Run the vision tower over images as the method wants it: smaller images, merged tokens, blocks to look at."""
        pixels = self.adapter.pixels(images)
        if isinstance(self.reducer, PixelReducer):
            pixels = self.reducer.shrink(pixels, self.adapter.geometry)
        merger = None
        if isinstance(self.reducer, TowerReducer):
            merger = partial(self.reducer.merge, geometry=self.adapter.geometry)
        return self.adapter.encode(pixels, self._outside.blocks, merger)

    def _batch_or_single(self, samples: Sequence[Sample], pictures: _Pictures) -> list[Answer]:
        try:
            return self.run(samples, pictures.encoded, pictures.seeds, pictures.of)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            # Not the sample's fault; recorded as its failure it would never be tried again.
            raise
        except (RuntimeError, ArithmeticError, ValueError) as error:
            if len(samples) == 1:
                return [Answer(samples[0].id, "", error=f"{type(error).__name__}: {error}")]
        answers = []
        for number, sample in enumerate(samples):
            alone = _Pictures(pictures.encoded, pictures.seeds, [pictures.of[number]])
            answers += self._batch_or_single([sample], alone)
        return answers

    def run(
        self,
        samples: Sequence[Sample],
        encoded: Encoded | None,
        seeds: Sequence[int],
        of: Sequence[Sequence[int]],
    ) -> list[Answer]:
        """Answer one batch whose images are encoded: ``of[s]`` are the numbers of sample s's images in ``encoded``."""
        flat = [number for row in of for number in row]
        owner = [s for s, row in enumerate(of) for _ in row]
        reduction, flops = (
            self.reduce(encoded, seeds, flat, [samples[s].question for s in owner]) if encoded and flat else (None, [])
        )
        visuals: list[list[Visual]] = [[] for _ in samples]
        if reduction is not None:
            for entry, s in enumerate(owner):
                count = int(reduction.counts[entry])
                stands = anchors(reduction.provenance, entry, count)
                owning = owners(reduction.provenance, entry) if self._unmerges else None
                visuals[s].append(Visual(reduction.tokens[entry, :count], stands, seeds[flat[entry]], owning))
        prompts = [
            self.adapter.tokenizer(sample.prompt(len(row)), return_tensors="pt").input_ids[0]
            for sample, row in zip(samples, of, strict=True)
        ]
        positions = self.reducer.positions if isinstance(self.reducer, TowerReducer) else self._outside.positions
        if self._unmerges:
            # The context has to hold every patch.
            positions = "keep"
        limits = [s.max_new_tokens for s in samples]
        rows = build_rows(self.adapter, prompts, visuals, positions, limits)
        method = self.reducer if bool((rows.image >= 0).any()) else self._plain
        cached = not isinstance(method, LayerReducer) or method.cached
        with install(self.adapter, method, rows) as trace:
            generated = greedy(self.adapter, rows, limits, [s.until for s in samples], cached)
        answers = []
        for s, sample in enumerate(samples):
            entries = [entry for entry, mine in enumerate(owner) if mine == s]
            inside = trace.flops * len(entries) // len(owner) if owner else 0
            work = sum(flops[entry] for entry in entries) + inside
            lengths = tuple(tuple(encoded.lengths[number].tolist()) for number in of[s]) if encoded else ()
            answers.append(self._account(sample, s, entries, lengths, reduction, trace, generated[s], work))
        return answers

    def reduce(
        self, encoded: Encoded, seeds: Sequence[int], images: Sequence[int], prompts: Sequence[str]
    ) -> tuple[Reduction, list[int]]:
        """Reduce encoded images, one entry an image and question.

        Returns:
            The reduction with tokens in the LLM's embedding space, and the method's own FLOPs for each entry: an equal share of
            its batch's tensor work, and its own texts.

        Raises:
            ParbenchError: The method did not deliver exactly what was asked of it.
        """
        geometry = self.adapter.geometry
        taken = encoded.take(torch.tensor(images, device=self.adapter.device))
        if isinstance(self.reducer, PixelReducer | TowerReducer):
            given = self.reducer.origin(taken, geometry)
            reduction = Reduction(self.adapter.project(given.tokens), given.counts, given.provenance)
            flops = [taken.work] * len(images)
        else:
            method = self._outside
            probes = Probes(self.adapter, taken, prompts, [seeds[image] for image in images])
            before = method.place == "before_projector"
            features = taken.features if before else self.adapter.project(taken.features)
            with own_flops() as counted:
                reduction = method.reduce(features, probes)
            own = (counted() - probes.computed) // len(images)
            flops = [own + text for text in probes.flops]
            if before:
                projected = self.adapter.project(reduction.tokens)
                reduction = Reduction(projected, reduction.counts, reduction.provenance, reduction.stages)
        self._check_delivered(reduction)
        return reduction, flops

    def _check_delivered(self, reduction: Reduction) -> None:
        asked = self.reducer.asked(self.adapter.geometry)
        if asked is None or not self.reducer.exact_budget or isinstance(self.reducer, LayerReducer):
            return
        wrong = reduction.counts[reduction.counts != asked]
        if len(wrong):
            raise ParbenchError(
                f"method {self.reducer.name} was asked for {asked} visual tokens and delivered {int(wrong[0])}"
            )

    def _account(self, sample: Sample, row: int, entries: Sequence[int], lengths: tuple[tuple[int, ...], ...],
                 reduction: Reduction | None, trace: Trace, generated: Generated, work: int) -> Answer:  # fmt: skip
        geometry = self.adapter.geometry
        kept, stages = [], {}
        if reduction is not None:
            for entry in entries:
                token, patch, weight = reduction.provenance.of(entry)
                # A token that comes from no patch (CLS) is counted too.
                count = int(reduction.counts[entry])
                if trace.origin is not None:
                    token, patch, weight = through(trace.origin.of(entry), (token, patch, weight), geometry.patches)
                    count = len(token.unique())
                kept.append(
                    Kept(count, tuple(patch.tolist()), tuple(weight.tolist()), tuple(token.tolist()),
                         (geometry.rows, geometry.columns))
                )  # fmt: skip
            stages = {name: int(sum(counts[entry] for entry in entries)) for name, counts in reduction.stages.items()}
            for stage in trace.passes[0] if trace.passes else ():
                stages[f"layer {stage.layer}"] = int((stage.layout.image[row] >= 0).sum())
        projected = 0
        if reduction is not None:
            after = self._outside.place == "after_projector"
            given = [length[-1] - 1 for length in lengths] if after else [int(reduction.counts[e]) for e in entries]
            projected = sum(given)
        skipped = 0
        if isinstance(self.reducer, MaskReducer):
            text_config = self.adapter.language.config
            skipped = self.reducer.skipped(text_config, geometry, int(trace.layers[0][row]), len(entries))
        ledger = SampleLedger(
            tower=lengths,
            projector=projected,
            reducer_flops=work,
            layers=tuple(int(layer[row]) for layer in trace.layers),
            visual=tuple(int(layer[row]) for layer in trace.visual),
            generated=len(generated.ids),
            skipped=skipped,
            attended=tuple(int(layer[row]) for layer in trace.attended),
            cached=not isinstance(self.reducer, LayerReducer) or self.reducer.cached,
        )
        asked = self.reducer.asked(geometry)
        if isinstance(self.reducer, LayerReducer) and asked is not None and entries:
            # Whole tokens a layer meet an average over layers to within half a token.
            delivered = ledger.tokens_kept / len(entries)
            if abs(delivered - asked) > 0.5:
                raise ParbenchError(
                    f"method {self.reducer.name} was asked for {asked} visual tokens a layer and delivered {delivered:.1f}"
                )
        return Answer(sample.id, generated.text, tuple(kept), ledger, generated.margin, stages)


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ParbenchError(
            "the device ran out of memory: lower engine.batch_size or engine.images_per_block; the same command then goes on"
        ) from error
    except torch.AcceleratorError as error:
        raise ParbenchError(
            f"the device failed ({str(error).splitlines()[0]}): run the same command again to go on"
        ) from error


def anchors(provenance: Provenance, entry: int, count: int) -> Tensor:
    """The patch that each token of an image stands for: the one with the greatest weight in it, the lower of equals.

    A token that comes from no patch (CLS) stands at patch 0, before which it has its place.
    """
    token, patch, weight = provenance.of(entry)
    found = torch.zeros(count, dtype=torch.long, device=token.device)
    order = torch.argsort(patch, descending=True, stable=True)
    order = order[torch.argsort(weight[order], stable=True)]
    # Later writes win on the CPU only, so each token is reduced explicitly.
    best = torch.zeros(count, dtype=torch.long, device=token.device)
    rank = torch.arange(1, len(order) + 1, device=token.device)
    best.scatter_reduce_(0, token[order], rank, "amax")
    has = best > 0
    found[has] = patch[order][best[has] - 1]
    return found


def owners(provenance: Provenance, entry: int) -> Tensor:
    """[N] the token that each patch of an image is in, where tokens share the patches out among them."""
    token, patch, _ = provenance.of(entry)
    return token[patch.argsort()]


def through(
    inner: tuple[Tensor, Tensor, Tensor], outer: tuple[Tensor, Tensor, Tensor], patches: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Token, patch and weight of tokens made (``inner``) of tokens that were made of patches (``outer``)."""
    last, middle, share = inner
    token, patch, weight = outer
    size = int(torch.cat([middle, token]).max()) + 1 if len(token) else 0
    first = weight.new_zeros(size, patches).index_put((token, patch), weight)
    second = weight.new_zeros(int(last.max()) + 1 if len(last) else 0, size).index_put((last, middle), share)
    whole = second @ first
    token, patch = whole.nonzero(as_tuple=True)
    return token, patch, whole[token, patch]


def image_seed(image: Image.Image) -> int:
    """A seed from an image's pixels, so that randomness follows the image and nothing else."""
    return int.from_bytes(hashlib.sha256(image.convert("RGB").tobytes()).digest()[:8], "big") >> 1
