"""lmms-eval tasks over rows that are already loaded."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from shutil import rmtree
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

# Imported for its registry: metrics and aggregations by name.
import lmms_eval.api.metrics  # noqa: F401
from lmms_eval.api.instance import Instance
from lmms_eval.api.reasoning import parse_reasoning_tags_config
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.filters.transformation import StripThinkingFilter

from parbench.harness.images import image_columns
from parbench.harness.random_state import dice_of


class LoadedTask(ConfigurableTask):
    """A task with rows passed in instead of downloaded; prompts, scoring and aggregation follow its configuration.

    Args:
        config: The task's configuration, as lmms-eval reads it from YAML.
        rows: The rows of its test split (a ``datasets.Dataset``).

    Attributes:
        choose: Selects the requests to answer and score from those of the whole data set; None for all.
    """

    choose: Callable[[Sequence[Instance]], list[Instance]] | None = None

    def __init__(self, config: Mapping[str, Any], rows: Any) -> None:
        self._rows = rows
        self._folder: str | None = None
        # The rows are complete: nothing is downloaded, joined or renamed.
        dropped = {"class", "process_docs", "validation_split", "training_split", "dataset_kwargs"}
        if not config.get("num_fewshot"):
            # lmms-eval would look for few-shot examples, which are not used.
            dropped |= {"fewshot_config", "fewshot_split"}
        super().__init__(config={key: value for key, value in config.items() if key not in dropped})
        self.features = list(rows.features)
        if self.config.auto_strip_thinking and parse_reasoning_tags_config(task_value=self.config.reasoning_tags) is None:
            # lmms-eval adds this filter at each evaluation; scoring needs it before the first one ends.
            for ensemble in self._filters:
                ensemble.filters.insert(0, StripThinkingFilter())
            self.config.auto_strip_thinking = False

    @property
    def args(self) -> SimpleNamespace:
        """Settings for aggregations that write files: ``output_path`` is a temporary folder, deleted with this object."""
        if self._folder is None:
            self._folder = mkdtemp(prefix="parbench-")
            weakref.finalize(self, rmtree, self._folder, ignore_errors=True)
        return SimpleNamespace(output_path=self._folder)

    @args.setter
    def args(self, value: Any) -> None:
        """Ignored: lmms-eval would set its command-line arguments here."""

    def test_docs(self) -> Any:
        """The rows without their images: scoring does not need them, and one may be damaged."""
        return self.test_docs_no_media()

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None) -> None:
        """Use the rows that were passed in, without their images for scoring."""
        from datasets import DatasetDict

        self.dataset = DatasetDict({self.config.test_split: self._rows})
        if self.config.process_results_use_image:
            self.dataset_no_image = self.dataset
            return
        plain = self._rows.remove_columns(image_columns(self._rows))
        self.dataset_no_image = DatasetDict({self.config.test_split: plain})

    def build_all_requests(self, **settings: Any) -> None:
        """Build the selected requests, numbered as in the whole data set."""
        super().build_all_requests(**settings)
        if self.choose is not None:
            self._instances = self.choose(self.instances)

    def apply_filters(self) -> None:
        """As in lmms-eval, but answers and rows are also paired correctly for a selection of requests."""
        docs = _Docs(self)
        for ensemble in self._filters:
            ensemble.apply(self.instances, docs)

    def process_results(self, doc: Any, results: Any, full_docs: Any = None) -> dict[str, Any]:
        """As in lmms-eval, but without its five attempts at a row that fails; what it draws at random follows from the row."""
        with dice_of(doc, results):
            found: dict[str, Any] = ConfigurableTask.process_results.__wrapped__(self, doc, results, full_docs)
        return found

    def doc_iterator(self, **settings: Any) -> Iterator[tuple[int, Any]]:
        """The rows that are scored, without their images, which would otherwise be decoded needlessly."""
        from lmms_eval.utils import create_iterator

        docs = self.eval_docs_no_media
        if self.choose is not None:
            return ((number, docs[number]) for number in sorted({one.doc_id for one in self.instances}))
        found: Iterator[tuple[int, Any]] = create_iterator(enumerate(docs), **settings)
        return found


class _Docs:
    """The rows of a task's requests, one per request, read only if a filter iterates over them."""

    def __init__(self, task: LoadedTask) -> None:
        self._task = task

    def __iter__(self) -> Iterator[Any]:
        docs = self._task.eval_docs_no_media
        return (docs[one.doc_id] for one in self._task.instances)


class ScenesTask(LoadedTask):
    """A ``scenes`` task for lmms-eval's own command line; the data are generated on first use."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from parbench.scenes.dataset import load_scenes
        from parbench.scenes.splits import splits_of

        split = splits_of(config["task"])[config["test_split"]]
        super().__init__(config, load_scenes(split, (config.get("metadata") or {}).get("skill")))
