"""lmms-eval tasks over rows that are loaded already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.task import ConfigurableTask


class LoadedTask(ConfigurableTask):
    """A task whose rows are given rather than fetched; prompts, scoring and aggregation are its configuration's.

    Args:
        config: The task's configuration, as lmms-eval reads it from YAML.
        rows: The rows of its test split (a ``datasets.Dataset``).

    Attributes:
        choose: Given the requests of the whole data set, those that are to be asked and scored; None for all.
    """

    choose: Callable[[Sequence[Instance]], list[Instance]] | None = None

    def __init__(self, config: Mapping[str, Any], rows: Any) -> None:
        self._rows = rows
        # Rows come complete, so nothing is fetched, joined or renamed any more.
        dropped = ("class", "process_docs", "validation_split", "training_split", "dataset_kwargs")
        super().__init__(config={key: value for key, value in config.items() if key not in dropped})

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None) -> None:
        """Take the rows; lmms-eval scores against them without their images."""
        from datasets import DatasetDict, Image, List, Sequence

        def is_image(feature: Any) -> bool:
            return isinstance(feature, Image) or (
                isinstance(feature, List | Sequence) and isinstance(feature.feature, Image)
            )

        plain = self._rows.remove_columns([name for name, feature in self._rows.features.items() if is_image(feature)])
        self.dataset = DatasetDict({self.config.test_split: self._rows})
        self.dataset_no_image = DatasetDict({self.config.test_split: plain})

    def build_all_requests(self, **settings: Any) -> None:
        """The chosen requests, numbered as in the whole data set."""
        super().build_all_requests(**settings)
        if self.choose is not None:
            self._instances = self.choose(self.instances)

    def doc_iterator(self, **settings: Any) -> Iterator[tuple[int, Any]]:
        """The rows that are scored, without their images, as from lmms-eval's own command line; else each is decoded for nothing."""
        from lmms_eval.utils import create_iterator

        docs = self.eval_docs_no_media
        if self.choose is not None:
            return ((number, docs[number]) for number in sorted({one.doc_id for one in self.instances}))
        return create_iterator(enumerate(docs), **settings)


class ScenesTask(LoadedTask):
    """A ``scenes`` task for lmms-eval's own command line; it builds the data on first use."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from parbench.scenes.dataset import load_scenes

        super().__init__(config, load_scenes(config["test_split"], (config.get("metadata") or {}).get("skill")))
