"""Runs samples through a model with a reducer: encode, reduce, prefill, decode, and account for it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from parbench.engine.batch_size import is_out_of_memory
from parbench.engine.decode import Generated, greedy
from parbench.engine.features import FeatureCache
from parbench.engine.hooks.install import install
from parbench.engine.hooks.layers import Trace
from parbench.engine.inputs import Line, Visual, build_line, pad
from parbench.engine.ledger import SampleLedger
from parbench.engine.origins import anchors, owners, through
from parbench.engine.pictures import Picture, Read, Reader, ahead, seed_of
from parbench.engine.samples import Answer, Kept, Sample
from parbench.engine.shared_prefix import after_beginnings, can_share_beginnings, shared_beginnings, up_to_first_stage
from parbench.errors import DeviceFailed, ParbenchError, UnfitSample
from parbench.models.adapter import LlavaAdapter
from parbench.models.counting import own_flops
from parbench.models.vision import Encoded
from parbench.reducers import (
    LayerReducer,
    MaskReducer,
    PixelReducer,
    Reducer,
    Reduction,
    TokenReducer,
    TowerReducer,
)
from parbench.reducers.none import Unreduced
from parbench.reducers.token_probes import Probes

_NOTHING: Mapping[str, Future[Read]] = {}


@dataclass(frozen=True)
class _Pictures:
    """The images of a block: encoded once each, and where each sample's are.

    Attributes:
        encoded: What the tower gave.
        seeds: One number an image, from its pixels.
        of: For each sample of the block, the numbers of its images.
        prompts: For each sample, by id, its token ids, or why it has none.
    """

    encoded: Encoded | None
    seeds: list[int]
    of: list[list[int]]
    prompts: Mapping[str, Tensor | Exception]


@dataclass(frozen=True)
class _Chosen:
    """The visual tokens that a batch's images are left with.

    Attributes:
        reduction: They; None without images.
        flops: The method's own, for each entry of the reduction.
        entries: For each sample, the reduction's entries that are its images'.
    """

    reduction: Reduction | None
    flops: list[int]
    entries: list[list[int]]


class Engine:
    """A model with a reducer, ready to answer batches of samples.

    Args:
        adapter: The model.
        reducer: The method; checked against the model here.
        share: Encode an image once for all its samples, choose its tokens once, and run what its samples have in common
            through the LLM once, where the method does not look at the question. Off, each sample's images are encoded and
            run with its batch, as Hugging Face does: then keep-all is the untouched model bit for bit on the same batch.
        features: Where features of images are remembered, if anywhere.
        workers: Threads that read images and prompts while others are computed; 0 for none.

    Attributes:
        most: The greatest batch that the device's memory holds, once a greater one did not fit.
        reader: Reads samples for it.
        waited: Seconds that reading has kept it from computing so far.
    """

    def __init__(self, adapter: LlavaAdapter, reducer: Reducer, *, share: bool = True,
                 features: FeatureCache | None = None, workers: int = 0) -> None:  # fmt: skip
        reducer.check(adapter.geometry)
        self.adapter = adapter
        self.reducer = reducer
        self.share = share
        self.features = features or FeatureCache()
        self.most: int | None = None
        self._plain = Unreduced(name="none")
        # What acts between the vision tower and the LLM.
        first = reducer.before(adapter.geometry) if isinstance(reducer, LayerReducer) else reducer
        self._outside = first if isinstance(first, TokenReducer) else self._plain
        self._in_tower = isinstance(reducer, PixelReducer | TowerReducer)
        self._unmerges = isinstance(reducer, TowerReducer) and reducer.unmerges
        self.reader = Reader(
            adapter, self.features, share, self._outside.blocks if share and not self._in_tower else None
        )
        self.workers = workers
        self.waited = 0.0
        self._chooses_once = share and not self._outside.prompt_aware
        in_llm = isinstance(reducer, LayerReducer | MaskReducer) or self._unmerges
        self._shares_prefix = self._chooses_once and not in_llm
        self._shares_first_layers = (
            self._chooses_once
            and isinstance(reducer, LayerReducer)
            and reducer.cached
            and bool(reducer.stages(adapter.geometry))
        )

    @torch.inference_mode()
    def answer(self, samples: Sequence[Sample], reading: Mapping[str, Future[Read]] = _NOTHING) -> list[Answer]:
        """Answer a batch.

        Args:
            samples: The batch.
            reading: What is read of it by others, by the reader's key; the rest is read here.

        Returns:
            One answer a sample, in order. A batch that fails is tried again sample by sample, so that only the failing sample
            fails, such as one whose image cannot be read; one that does not fit into memory is halved, and later ones are cut
            to what did fit.

        Raises:
            ParbenchError: Something that a person has to put right: memory that does not hold a single sample.
        """
        most = self.most or len(samples)
        if len(samples) > most:
            return [one for at in range(0, len(samples), most) for one in self.answer(samples[at : at + most], reading)]
        try:
            begun = time.perf_counter()
            pictures = self._encode(samples, self._read(samples, reading))
            found = self._batch_or_single(samples, pictures)
            seconds = (time.perf_counter() - begun) / len(samples)
            return [replace(answer, seconds=seconds) for answer in found]
        except UnfitSample as error:
            # An image of one of them.
            if len(samples) == 1:
                return [Answer(samples[0].id, "", error=str(error))]
            return [answer for sample in samples for answer in self.answer([sample], reading)]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                if isinstance(error, torch.AcceleratorError):
                    raise DeviceFailed(
                        f"the device failed ({str(error).splitlines()[0]}): run the same command again to go on"
                    ) from error
                raise
            if len(samples) == 1:
                raise ParbenchError(
                    "the device's memory does not hold a single sample: free some of it; the same command then goes on"
                ) from error
        # Outside the handler, whose traceback would keep the tensors alive.
        self.most = len(samples) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"a batch of {len(samples)} does not fit into memory: going on with {self.most}", file=sys.stderr)
        return self.answer(samples, reading)

    def answers(self, batches: Sequence[Sequence[Sample]]) -> Generator[list[Answer]]:
        """Answer batches, while workers read the next ones; see :meth:`answer`.

        Close the iterator to end them. What they read is the same as without them, and an error comes with the batch it is of.
        """
        with contextlib.closing(ahead(self.reader, batches, self.workers)) as ready:
            for batch, reading in ready:
                yield self.answer(batch, reading)

    def _read(self, samples: Sequence[Sample], reading: Mapping[str, Future[Read]]) -> dict[str, Read]:
        """What is read of each group of samples, waited for or read here."""
        begun = time.perf_counter()
        try:
            return {
                key: reading[key].result() if key in reading else self.reader.read(group)
                for key, group in self.reader.groups(samples).items()
            }
        finally:
            self.waited += time.perf_counter() - begun

    def _encode(self, samples: Sequence[Sample], read: Mapping[str, Read]) -> _Pictures:
        unique: dict[int, int] = {}
        order: list[Picture] = []
        of = []
        prompts: dict[str, Tensor | Exception] = {}
        for sample in samples:
            mine = read[self.reader.key(sample)]
            prompts[sample.id] = mine.prompts[sample.id]
            for picture in mine.pictures:
                if id(picture) not in unique:
                    unique[id(picture)] = len(order)
                    order.append(picture)
            of.append([unique[id(picture)] for picture in mine.pictures])
        if not order:
            return _Pictures(None, [], of, prompts)
        if self._in_tower or not self.share:
            encoded = self.encode_pixels(torch.cat([picture.pixels() for picture in order]))
        else:
            encoded = self._remembered(order)
        return _Pictures(encoded, [seed_of(picture.digest) for picture in order], of, prompts)

    def encode(self, images: Sequence[Image.Image]) -> Encoded:
        """Run the vision tower over images as the method wants it: smaller images, merged tokens, blocks to look at."""
        return self.encode_pixels(self.adapter.pixels(images))

    @property
    def blocks(self) -> tuple[int, ...]:
        """Vision blocks whose queries and keys the method looks at."""
        return tuple(self._outside.blocks)

    def encode_pixels(self, pixels: Tensor) -> Encoded:
        """The same for preprocessed images [B, 3, H, W]."""
        pixels = pixels.to(self.adapter.device, self.adapter.dtype)
        if isinstance(self.reducer, PixelReducer):
            pixels = self.reducer.shrink(pixels, self.adapter.geometry)
        merger = None
        if isinstance(self.reducer, TowerReducer):
            merger = partial(self.reducer.merge, geometry=self.adapter.geometry)
        return self.adapter.encode(pixels, self._outside.blocks, merger)

    def remembered(self, images: Sequence[Image.Image]) -> Encoded:
        """The same where nothing acts in the tower, from memory where possible."""
        return self._remembered([self.reader.picture(image) for image in images])

    def _remembered(self, pictures: Sequence[Picture]) -> Encoded:
        # Each image by itself, so that its features never depend on what else is at hand.
        blocks, parts = self._outside.blocks, []
        for picture in pictures:
            found = self.features.get(picture.name, blocks)
            parts.append(found or self.features.put(picture.name, self.encode_pixels(picture.pixels())))
        return Encoded.stack(parts, blocks)

    def _batch_or_single(self, samples: Sequence[Sample], pictures: _Pictures) -> list[Answer]:
        try:
            return self.run(samples, pictures)
        except (RuntimeError, ArithmeticError, ValueError) as error:
            # Not the sample's fault; recorded as its failure it would never be tried again.
            if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError):
                raise
            if len(samples) == 1:
                return [Answer(samples[0].id, "", error=f"{type(error).__name__}: {error}")]
        answers = []
        for number, sample in enumerate(samples):
            alone = replace(pictures, of=[pictures.of[number]])
            answers += self._batch_or_single([sample], alone)
        return answers

    def run(self, samples: Sequence[Sample], pictures: _Pictures) -> list[Answer]:
        """Answer one batch whose images are encoded."""
        encoded, of = pictures.encoded, pictures.of
        chosen = self._choose(samples, pictures)
        reduction = chosen.reduction
        visuals: list[list[Visual]] = [[] for _ in samples]
        if reduction is not None:
            made: dict[int, Visual] = {}
            for s, entries in enumerate(chosen.entries):
                for entry, number in zip(entries, of[s], strict=True):
                    if entry not in made:
                        count = int(reduction.counts[entry])
                        stands = anchors(reduction.provenance, entry, count)
                        owning = owners(reduction.provenance, entry) if self._unmerges else None
                        made[entry] = Visual(reduction.tokens[entry, :count], stands, pictures.seeds[number], owning)
                    visuals[s].append(made[entry])
        lines, limits, unfit = self._lines(samples, visuals, pictures.prompts)
        if unfit:
            return self._without(unfit, samples, pictures)
        until = [sample.until for sample in samples]
        shares = (self._shares_prefix or self._shares_first_layers) and can_share_beginnings(self.adapter)
        beginnings = shared_beginnings(lines, of) if shares else None
        if beginnings is not None and isinstance(self.reducer, LayerReducer):
            generated, trace = up_to_first_stage(self.adapter, self.reducer, lines, beginnings, limits, until)
        elif beginnings is not None:
            generated, trace = after_beginnings(self.adapter, beginnings, limits, until)
        else:
            rows = pad(self.adapter, lines)
            method = self.reducer if any(of) else self._plain
            cached = not isinstance(method, LayerReducer) or method.cached
            with install(self.adapter, method, rows) as trace:
                leave = trace.leave if self.share else None
                generated = greedy(self.adapter, rows, limits, until, cached, leave=leave)
        answers, place, images = [], 0, sum(map(len, of))
        for s, sample in enumerate(samples):
            entries, places = chosen.entries[s], range(place, place + len(of[s]))
            place += len(of[s])
            inside = trace.flops * len(entries) // images if images else 0
            work = sum(chosen.flops[entry] for entry in entries) + inside
            lengths = tuple(tuple(encoded.lengths[number].tolist()) for number in of[s]) if encoded else ()
            answers.append(self._account(sample, s, entries, places, lengths, reduction, trace, generated[s], work))
        return answers

    def _lines(
        self, samples: Sequence[Sample], visuals: Sequence[Sequence[Visual]], prompts: Mapping[str, Tensor | Exception]
    ) -> tuple[list[Line], list[int], dict[int, str]]:
        """The lines of a batch, how many tokens each may generate, and why some have none, by their number."""
        positions = self.reducer.positions if isinstance(self.reducer, TowerReducer) else self._outside.positions
        if self._unmerges:
            # The context has to hold every patch.
            positions = "keep"
        lines, limits, unfit = [], [], {}
        for number, (sample, row) in enumerate(zip(samples, visuals, strict=True)):
            try:
                prompt = prompts[sample.id]
                if isinstance(prompt, Exception):
                    raise prompt
                line, limit = build_line(self.adapter, prompt, row, positions, sample.max_new_tokens)
            except UnfitSample as error:
                unfit[number] = str(error)
            else:
                lines.append(line)
                limits.append(limit)
        return lines, limits, unfit

    def _without(self, unfit: Mapping[int, str], samples: Sequence[Sample], pictures: _Pictures) -> list[Answer]:
        """Answer a batch without some of its samples, which have failed."""
        fit = [number for number in range(len(samples)) if number not in unfit]
        others = replace(pictures, of=[pictures.of[number] for number in fit])
        answers = iter(self._batch_or_single([samples[number] for number in fit], others) if fit else [])
        return [
            Answer(sample.id, "", error=unfit[number]) if number in unfit else next(answers)
            for number, sample in enumerate(samples)
        ]

    def _choose(self, samples: Sequence[Sample], pictures: _Pictures) -> _Chosen:
        """Reduce each image once, or once a sample where the method looks at the question."""
        encoded, of = pictures.encoded, pictures.of
        if encoded is None or not any(of):
            return _Chosen(None, [], [[] for _ in samples])
        if self._chooses_once:
            images = sorted({number for row in of for number in row})
            entries = [[images.index(number) for number in row] for row in of]
            questions = [""] * len(images)
        else:
            images = [number for row in of for number in row]
            count = iter(range(len(images)))
            entries = [[next(count) for _ in row] for row in of]
            questions = [sample.question for sample, row in zip(samples, of, strict=True) for _ in row]
        reduction, flops = self.reduce(encoded, pictures.seeds, images, questions)
        return _Chosen(reduction, flops, entries)

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

    def _account(self, sample: Sample, row: int, entries: Sequence[int], places: Sequence[int],
                 lengths: tuple[tuple[int, ...], ...], reduction: Reduction | None, trace: Trace, generated: Generated,
                 work: int) -> Answer:  # fmt: skip
        geometry = self.adapter.geometry
        kept, stages = [], {}
        if reduction is not None:
            for entry, place in zip(entries, places, strict=True):
                token, patch, weight = reduction.provenance.of(entry)
                # A token that comes from no patch (CLS) is counted too.
                count = int(reduction.counts[entry])
                if trace.origin is not None:
                    token, patch, weight = through(trace.origin.of(place), (token, patch, weight), geometry.patches)
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
