"""Scores and aggregates of every shipped data set beside lmms-eval's own task, called directly on the same rows and answers."""

from __future__ import annotations

import inspect
import random
from collections import defaultdict
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from miniatures import MINIATURES, NAMED, dataset
from parbench.config import compose_config
from parbench.harness.datasets import PreparedDataset


class Direct:
    """lmms-eval's own task over a parquet file: filters, ``process_results`` and aggregations as its evaluator calls them.

    Attributes:
        values: For each row, what ``process_results`` gave.
        aggregates: Each metric over all rows.
    """

    def __init__(self, prepared: PreparedDataset, rows: Any, answers: list[str], folder: Any) -> None:
        from lmms_eval.api.task import ConfigurableTask
        from lmms_eval.utils import load_yaml_config

        config = load_yaml_config(str(prepared._task_file.path), mode="full")
        rows.to_parquet(folder / "rows.parquet")
        split = config["test_split"]
        config |= {
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(folder / "rows.parquet")}},
            "process_docs": config.get("process_docs") if prepared.settings.get("by_name") else None,
            "metric_list": [one for one in config["metric_list"] if one["metric"] != "submission"],
        }
        task = ConfigurableTask(config=config)
        task.build_all_requests()
        for request, answer in zip(task.instances, answers, strict=True):
            request.resps = [answer]
        task.apply_filters()
        name = task._filters[0].name
        docs = task.eval_docs_no_media
        self.values = [task.process_results(docs[one.doc_id], [one.filtered_resps[name]]) for one in task.instances]
        items = defaultdict(list)
        for value in self.values:
            for metric, one in value.items():
                items[metric].append(one)
        self.aggregates = {}
        for metric, function in task.aggregation().items():
            if metric in items and not metric.endswith(("Bleu_1", "Bleu_2", "Bleu_3", "METEOR")):
                given = (
                    {"args": SimpleNamespace(output_path=str(folder))} if "args" in inspect.signature(function).parameters else {}
                )
                self.aggregates[f"{metric},{name}"] = function(items[metric], **given)


def scored(value: Any) -> float | None:
    """A value that is a score by itself."""
    if isinstance(value, dict):
        value = value.get("score")
    return value


def of_scores(name: str, rows: list[dict], scores: list[float]) -> float | None:
    """A set's number out of the scores of its rows; None where it is other than theirs together."""
    if name in ("mme", "mmstar"):
        return None
    if name == "mmbench":
        # All rotations of a question have to be right.
        groups = defaultdict(list)
        for row, score in zip(rows, scores, strict=True):
            groups[row["index"] % 1_000_000].append(score)
        return 100 * fmean(min(group) for group in groups.values())
    return sum(scores) / (1000 if name == "ocrbench" else len(scores))


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    # nocaps' captions are scored by a Java program.
    [pytest.param(name, marks=pytest.mark.external if name.startswith("nocaps") else ()) for name in (*MINIATURES, *NAMED)],
)
def test_scores_and_aggregates_are_lmms_evals(name, tmp_path):
    from parbench.harness.evaluate import own_metrics, simple_evaluation
    from parbench.harness.merge import StoredAnswers
    from parbench.harness.session import Session

    small = {**MINIATURES, **NAMED}[name]()
    words = [
        f"dataset={name}",
        f"dataset.path={small.write(tmp_path / 'data')}",
        "dataset.where=null" if name == "seedbench" else "seed=0",
    ]
    session = Session(compose_config(words))
    prepared = session.dataset
    rows = dataset(small.rows, small.images) if name != "gqa" else prepared.rows
    direct = Direct(prepared, rows, small.answers, tmp_path)
    metrics = prepared.scorer.metrics
    scores = [prepared.score(doc, said) for doc, said in zip(prepared.docs(), small.answers, strict=True)]
    for value, score in zip(direct.values, scores, strict=True):
        expected = scored(next(value[metric] for metric in metrics if metric in value))
        if expected is not None:
            assert score == expected
    if (whole := of_scores(name, small.rows, scores)) is not None:
        assert whole == pytest.approx(direct.aggregates[f"{metrics[0]},{prepared.task._filters[0].name}"], abs=1e-5)
    texts = {f"{prepared.task_name}-{number}": said for number, said in enumerate(small.answers)}
    for _ in range(2):
        # A second run in a process gives what the first gave.
        found = own_metrics(prepared, simple_evaluation(session, StoredAnswers(texts)))
        ours = {key.replace("_of_right_answers", ""): value for key, value in found.items() if "_stderr" not in key}
        ours = {key: value for key, value in ours.items() if key in direct.aggregates}
        assert ours == pytest.approx(direct.aggregates, abs=1e-12)
    assert 0 < sum(scores) < len(scores)


def test_what_lmms_eval_guesses_is_the_same_in_any_order_and_process_state(tmp_path):
    """MMMU's parser chooses an option at random where an answer names none."""
    from parbench.harness.session import Session

    small = MINIATURES["mmmu"]()
    prepared = Session(compose_config(["dataset=mmmu", f"dataset.path={small.write(tmp_path / 'data')}"])).dataset
    docs = prepared.docs()
    asked = [(docs[number], f"no idea {word}") for number in (1, 2, 3, 4) for word in range(10)]
    random.seed(1)
    first = [prepared.score(doc, said) for doc, said in asked]
    state = random.getstate()
    assert [prepared.score(doc, said) for doc, said in reversed(asked)] == first[::-1]
    assert random.getstate() == state
    # It is a guess: right for some.
    assert 0 < sum(first) < len(first)
