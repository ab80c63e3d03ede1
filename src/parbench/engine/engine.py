"""The engine: runs samples through a model with a method (encode, reduce, prefill, decode, account)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

import torch

from parbench.engine.accounting import account
from parbench.engine.assemble import assemble
from parbench.engine.batch import Batch, Chosen
from parbench.engine.batch_size import is_out_of_memory
from parbench.engine.decode import Generated, greedy
from parbench.engine.features import FeatureCache
from parbench.engine.hooks.install import install
from parbench.engine.images import EncodedImages, ImageEncoder
from parbench.engine.inputs import Lines, pad
from parbench.engine.pictures import Read, ahead
from parbench.engine.reduced import Reduced, reduce_images
from parbench.engine.samples import Answer, Sample
from parbench.engine.shared_prefix import can_share_prefixes, shared_prefixes
from parbench.engine.sites import Site, site_of
from parbench.engine.trace import Trace
from parbench.errors import DeviceFailed, ParbenchError, UnfitSample
from parbench.models.adapter import ModelAdapter
from parbench.models.evidence import Evidence
from parbench.models.families import ImageTokens
from parbench.models.vision import Encoded
from parbench.reducers import Reducer
from parbench.reducers.needs import check_model

_log = logging.getLogger(__name__)

_NOTHING: Mapping[str, Future[Read]] = {}


class Engine:
    """Answers batches of samples with a model and a method.

    Args:
        adapter: The model.
        reducer: The method. It is checked against the model.
        share: Whether computation is shared between the samples of an image. Its features are computed once. If the method is not
            prompt-aware, its tokens are also chosen once, and the common prefix runs through the LLM once. False: images are
            encoded and run with each batch, as Hugging Face does; keep-all is then bit-identical to the unmodified model on
            the same batch.
        features: Cache of image features; None for none.
        workers: Threads that read images and prompts ahead; 0 for none.

    Attributes:
        site: The method at its site.
        images: Reads and encodes images.
        most: The largest batch that fits into memory, once a larger one did not; None before.
    """

    def __init__(
        self, adapter: ModelAdapter, reducer: Reducer, *, share: bool = True, features: FeatureCache | None = None, workers: int = 0
    ) -> None:
        check_model(reducer, adapter.geometry)
        reducer = reducer.for_model(adapter.name, lambda: adapter.fingerprint, adapter.geometry)
        self.adapter = adapter
        self.reducer = reducer
        self.site = site_of(reducer, adapter.geometry)
        self.share = share
        self.images = ImageEncoder(adapter, self.site, share, features or FeatureCache())
        self.workers = workers
        self.most: int | None = None

    def act_at(self, site: Site[Reducer]) -> None:
        """Replace the method's site, for example by one that times it."""
        self.site = self.images.site = site

    @torch.inference_mode()
    def answer(self, samples: Sequence[Sample], reading: Mapping[str, Future[Read]] = _NOTHING) -> list[Answer]:
        """Answer a batch.

        Args:
            samples: The batch.
            reading: Samples that are read by workers, by the reader's key. The others are read here.

        Returns:
            One answer per sample, in order. A failing batch is repeated sample by sample, so that only the failing sample fails
            (for example, one whose image cannot be read). A batch that does not fit into memory is halved, and later batches use
            the smaller size.

        Raises:
            ParbenchError: An error that concerns all samples, such as too little memory for a single one.
        """
        most = self.most or len(samples)
        if len(samples) > most:
            return [one for at in range(0, len(samples), most) for one in self.answer(samples[at : at + most], reading)]
        try:
            begun = time.perf_counter()
            images = self.images.encode_samples(samples, reading)
            found = self._batch_or_single(samples, images)
            seconds = (time.perf_counter() - begun) / len(samples)
            return [replace(answer, seconds=seconds) for answer in found]
        except UnfitSample as error:
            # An image of one of the samples.
            if len(samples) == 1:
                return [Answer(samples[0].id, "", error=str(error))]
            return [answer for sample in samples for answer in self.answer([sample], reading)]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                if isinstance(error, torch.AcceleratorError):
                    raise DeviceFailed(
                        f"the device failed ({str(error).splitlines()[0]}): run the same command again to resume"
                    ) from error
                raise
            if len(samples) == 1:
                raise ParbenchError(
                    "a single sample does not fit into the device's memory: free memory, then run the same command again to resume"
                ) from error
        # Outside the handler, because its traceback would keep the tensors alive.
        self.most = len(samples) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.warning(f"a batch of {len(samples)} does not fit into memory: continuing with {self.most}")
        return self.answer(samples, reading)

    def answers(self, batches: Sequence[Sequence[Sample]], *, read_ahead: bool = True) -> Generator[list[Answer]]:
        """Answer batches, while workers read the next ones; see :meth:`answer`.

        Close the iterator to stop the workers. Results do not depend on them. An error is raised with the batch in which it occurs.

        Args:
            batches: The batches.
            read_ahead: False if prompts hold answers of earlier batches, and can be read only after these.
        """
        with contextlib.closing(ahead(self.images.reader, batches, self.workers if read_ahead else 0)) as ready:
            for batch, reading in ready:
                yield self.answer(batch, reading)

    def _batch_or_single(self, samples: Sequence[Sample], images: EncodedImages) -> list[Answer]:
        try:
            return self.run(samples, images)
        except (RuntimeError, ArithmeticError, ValueError) as error:
            # Not the sample's fault. As a failed sample it would never be retried.
            if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError):
                raise
            if len(samples) == 1:
                return [Answer(samples[0].id, "", error=f"{type(error).__name__}: {error}")]
        answers = []
        for number, sample in enumerate(samples):
            answers += self._batch_or_single([sample], images.of_samples([number]))
        return answers

    def run(self, samples: Sequence[Sample], images: EncodedImages) -> list[Answer]:
        """Answer one batch whose images are encoded."""
        chosen = self.choose(samples, images)
        batch = Batch(samples, images, chosen, self.site, self.adapter.language.config)
        lines, selection = assemble(self.adapter, batch), self._selection(batch)
        if unfit := lines.unfit | (selection.unfit if selection else {}):
            return self._without(unfit, samples, images)
        asking = [lines.asking(row) for row in range(len(samples))]
        if selection is None:
            generated, trace = self._generate(self.site, batch, lines)
            return [account(batch, trace, generated[row], row, asking[row]) for row in range(len(samples))]
        _, before = self._generate(self.site, batch, selection)
        generated, trace = self._generate(self.site.replaying(before.choices), batch, lines)
        trace.flops += before.flops
        choosing = [before.choosing(row, selection.asking(row)) for row in range(len(samples))]
        return [account(batch, trace, generated[row], row, asking[row], choosing[row]) for row in range(len(samples))]

    def _selection(self, batch: Batch) -> Lines | None:
        """The prompts for which the method chooses inside the LLM; None if it chooses nothing there, or for each sample's own."""
        chooses = self.reducer.prompt_aware and self.site.layers_read and any(batch.images.of)
        if not chooses or not any(one.chosen_for for one in batch.samples):
            return None
        found = assemble(self.adapter, replace(batch, samples=[one.chosen_for or one for one in batch.samples]))
        return replace(found, limits=[1] * len(found.limits))

    def _without(self, unfit: Mapping[int, str], samples: Sequence[Sample], images: EncodedImages) -> list[Answer]:
        """Answer a batch without its failed samples."""
        fit = [number for number in range(len(samples)) if number not in unfit]
        others = images.of_samples(fit)
        answers = iter(self._batch_or_single([samples[number] for number in fit], others) if fit else [])
        return [
            Answer(sample.id, "", error=unfit[number]) if number in unfit else next(answers)
            for number, sample in enumerate(samples)
        ]

    def _generate(self, acting: Site[Reducer], batch: Batch, lines: Lines) -> tuple[list[Generated], Trace]:
        """Run the lines of a batch, with a shared prefix if possible."""
        of = batch.images.of
        if self._chooses_once and acting.shares_prefixes and can_share_prefixes(self.adapter):
            prefixes = shared_prefixes(lines.lines, of)
            if prefixes is not None:
                return acting.run_shared(self.adapter, lines, prefixes)
        rows = pad(self.adapter, lines.lines)
        site = acting if any(of) else None
        cached = site.cached if site else True
        with install(self.adapter, site, rows) as trace:
            leave = trace.leave if self.share else None
            return greedy(self.adapter, rows, lines.limits, lines.until, cached, leave=leave), trace

    @property
    def _chooses_once(self) -> bool:
        """Whether the tokens of an image are the same for all its samples."""
        return self.share and not self.site.prompt_aware

    def choose(self, samples: Sequence[Sample], images: EncodedImages) -> Chosen:
        """Reduce each image once, or once per sample if the method is prompt-aware.

        Raises:
            ParbenchError: The method did not deliver its budget.
        """
        of = images.of
        if self._chooses_once:
            numbers = sorted({number for row in of for number in row})
            entries = [[numbers.index(number) for number in row] for row in of]
            questions, evidence = [""] * len(numbers), []
        else:
            numbers = [number for row in of for number in row]
            count = iter(range(len(numbers)))
            entries = [[next(count) for _ in row] for row in of]
            asked = [sample.chosen_for or sample for sample in samples]
            questions = [sample.question for sample, row in zip(asked, of, strict=True) for _ in row]
            evidence = [one for sample, row in zip(asked, of, strict=True) for one in _evidence(sample, len(row))]
        seeds = [images.seeds[number] for number in numbers]
        return Chosen(self.reduce([images.encoded[number] for number in numbers], questions, seeds, evidence), entries)

    def reduce(
        self,
        images: Sequence[tuple[Encoded, ImageTokens]],
        questions: Sequence[str],
        seeds: Sequence[int],
        evidence: Sequence[Evidence | None] = (),
    ) -> list[Reduced]:
        """Reduce encoded images; see :func:`parbench.engine.reduced.reduce_images`.

        Raises:
            ParbenchError: The method did not deliver its budget.
        """
        return reduce_images(self.site, self.adapter, images, questions, seeds, evidence)


def _evidence(sample: Sample, images: int) -> list[Evidence | None]:
    """Where in each image of a sample is what it is about. Boxes refer to the first image; none of the others is needed."""
    known = sample.evidence
    return [known if not place or known is None else Evidence(()) for place in range(images)]
