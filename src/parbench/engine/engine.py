"""Runs samples through a model with a reducer: encode, reduce, prefill, decode, and account for it."""

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
from parbench.engine.samples import Answer, Sample
from parbench.engine.shared_prefix import can_share_beginnings, shared_beginnings
from parbench.engine.sites import Site, site_of
from parbench.engine.trace import Trace
from parbench.errors import DeviceFailed, ParbenchError, UnfitSample
from parbench.models.adapter import LlavaAdapter
from parbench.models.vision import Encoded
from parbench.reducers import Reducer, Reduction

_log = logging.getLogger(__name__)

_NOTHING: Mapping[str, Future[Read]] = {}


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
        site: The method at the place where it acts.
        images: Reads and encodes images.
        most: The greatest batch that the device's memory holds, once a greater one did not fit.
    """

    def __init__(
        self, adapter: LlavaAdapter, reducer: Reducer, *, share: bool = True, features: FeatureCache | None = None, workers: int = 0
    ) -> None:
        reducer.check(adapter.geometry)
        self.adapter = adapter
        self.reducer = reducer
        self.site = site_of(reducer, adapter.geometry)
        self.share = share
        self.images = ImageEncoder(adapter, self.site, share, features or FeatureCache())
        self.workers = workers
        self.most: int | None = None

    def act_at(self, site: Site[Reducer]) -> None:
        """Let the method act through another site than its own, such as one that times it."""
        self.site = self.images.site = site

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
            images = self.images.encode_samples(samples, reading)
            found = self._batch_or_single(samples, images)
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
        _log.warning(f"a batch of {len(samples)} does not fit into memory: going on with {self.most}")
        return self.answer(samples, reading)

    def answers(self, batches: Sequence[Sequence[Sample]]) -> Generator[list[Answer]]:
        """Answer batches, while workers read the next ones; see :meth:`answer`.

        Close the iterator to end them. What they read is the same as without them, and an error comes with the batch it is of.
        """
        with contextlib.closing(ahead(self.images.reader, batches, self.workers)) as ready:
            for batch, reading in ready:
                yield self.answer(batch, reading)

    def _batch_or_single(self, samples: Sequence[Sample], images: EncodedImages) -> list[Answer]:
        try:
            return self.run(samples, images)
        except (RuntimeError, ArithmeticError, ValueError) as error:
            # Not the sample's fault; recorded as its failure it would never be tried again.
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
        lines = assemble(self.adapter, batch)
        if lines.unfit:
            return self._without(lines.unfit, samples, images)
        generated, trace = self._generate(batch, lines)
        return [account(batch, trace, generated[row], row) for row in range(len(samples))]

    def _without(self, unfit: Mapping[int, str], samples: Sequence[Sample], images: EncodedImages) -> list[Answer]:
        """Answer a batch without some of its samples, which have failed."""
        fit = [number for number in range(len(samples)) if number not in unfit]
        others = images.of_samples(fit)
        answers = iter(self._batch_or_single([samples[number] for number in fit], others) if fit else [])
        return [
            Answer(sample.id, "", error=unfit[number]) if number in unfit else next(answers)
            for number, sample in enumerate(samples)
        ]

    def _generate(self, batch: Batch, lines: Lines) -> tuple[list[Generated], Trace]:
        """Run the lines of a batch, what they have in common once where that is possible."""
        of = batch.images.of
        if self._chooses_once and self.site.shares_beginnings and can_share_beginnings(self.adapter):
            beginnings = shared_beginnings(lines.lines, of)
            if beginnings is not None:
                return self.site.run_shared(self.adapter, lines, beginnings)
        rows = pad(self.adapter, lines.lines)
        site = self.site if any(of) else None
        cached = site.cached if site else True
        with install(self.adapter, site, rows) as trace:
            leave = trace.leave if self.share else None
            return greedy(self.adapter, rows, lines.limits, lines.until, cached, leave=leave), trace

    @property
    def _chooses_once(self) -> bool:
        """Whether an image's tokens are the same for all its samples."""
        return self.share and not self.site.prompt_aware

    def choose(self, samples: Sequence[Sample], images: EncodedImages) -> Chosen:
        """Reduce each image once, or once a sample where the method looks at the question.

        Raises:
            ParbenchError: The method did not deliver exactly what was asked of it.
        """
        encoded, of = images.encoded, images.of
        if encoded is None or not any(of):
            return Chosen(None, [], [], [[] for _ in samples])
        if self._chooses_once:
            numbers = sorted({number for row in of for number in row})
            entries = [[numbers.index(number) for number in row] for row in of]
            questions = [""] * len(numbers)
        else:
            numbers = [number for row in of for number in row]
            count = iter(range(len(numbers)))
            entries = [[next(count) for _ in row] for row in of]
            questions = [sample.question for sample, row in zip(samples, of, strict=True) for _ in row]
        seeds = [images.seeds[number] for number in numbers]
        taken = encoded.take(torch.tensor(numbers, device=self.adapter.device))
        reduction, flops = self.reduce(taken, questions, seeds)
        return Chosen(reduction, flops, seeds, entries)

    def reduce(self, encoded: Encoded, questions: Sequence[str], seeds: Sequence[int]) -> tuple[Reduction, list[int]]:
        """Reduce encoded images; see :meth:`parbench.engine.sites.Site.reduce`.

        Raises:
            ParbenchError: The method did not deliver exactly what was asked of it.
        """
        reduction, flops = self.site.reduce(self.adapter, encoded, questions, seeds)
        self.site.check_reduced(reduction)
        return reduction, flops
