"""Scores of single answers, identical to those in lmms-eval's own evaluation."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from parbench.errors import ParbenchError, unknown


class Scorer:
    """Scores single answers with an lmms-eval task: its filters, ``process_results`` and aggregations, not copies of them.

    The score of a sample is taken from the first of ``metrics`` that ``process_results`` returns for its row:

    1. the value, if that is a number;
    2. the number under the task's ``score_key`` (``score`` by default), if the value is a mapping that has one; lmms-eval
       uses the same number for standard errors;
    3. otherwise the metric's aggregation over this sample alone.

    If a task has several filter pipelines, the first is used.

    Args:
        task: The task.
        metrics: Names of metrics, the preferred one first.

    Raises:
        ParbenchError: The task has no such metric.
    """

    def __init__(self, task: Any, metrics: Sequence[str]) -> None:
        known = list(task.aggregation())
        for name in metrics:
            if name not in known:
                raise unknown(f"metric of lmms-eval's task {task.config.task}", name, known)
        self.task, self.metrics = task, tuple(metrics)

    def values(self, doc: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The value of each metric for an answer, as ``process_results`` returns it.

        Raises:
            ParbenchError: The row cannot be scored, for example because the benchmark does not know its right answer.
        """
        from lmms_eval.api.instance import Instance
        from lmms_eval.api.reasoning import parse_reasoning_tags_config
        from lmms_eval.evaluator import _process_document_results

        task = self.task
        # Scoring may change a row, so it gets a copy.
        doc = copy.deepcopy(dict(doc))
        request = Instance(
            request_type=task.OUTPUT_TYPE,
            arguments=(),
            idx=0,
            metadata=dict.fromkeys(("task", "doc_id", "repeats")),
            resps=[text],
        )
        try:
            with silent():
                for ensemble in task._filters:
                    ensemble.apply([request], [doc])
                found: dict[str, Any] = _process_document_results(
                    (0, doc, [request]),
                    task=task,
                    filter_key=task._filters[0].name,
                    reasoning_tags=parse_reasoning_tags_config(task_value=task.config.reasoning_tags),
                    log_samples=False,
                ).metrics
                return found
        except Exception as error:
            raise ParbenchError(
                f"lmms-eval's task {task.config.task} cannot score a row with the answer {_shown(doc)} ({type(error).__name__}: "
                f"{str(error) or 'no more is said'}): mend or remove that row"
            ) from error

    def check(self, numbers: Iterable[int], docs: Any) -> None:
        """Check that rows can be scored.

        Args:
            numbers: Indices of the rows to check.
            docs: All rows, without images.

        Raises:
            ParbenchError: A row cannot be scored, for example because the benchmark does not know its right answer.
        """
        for number in numbers:
            try:
                self.values(docs[number], "")
            except ParbenchError as error:
                raise ParbenchError(f"row {number}: {error}") from error

    def score(self, doc: Mapping[str, Any], text: str) -> float:
        """The score of an answer.

        Args:
            doc: The row, without its images.
            text: The answer as it was generated.

        Raises:
            ParbenchError: The row cannot be scored, or the metric is not defined for a single answer.
        """
        found = self.values(doc, text)
        metric = next((name for name in self.metrics if name in found), None)
        if metric is None:
            raise unknown(f"metric of a row of lmms-eval's task {self.task.config.task}", self.metrics[0], found)
        value = found[metric]
        if (number := as_number(value)) is not None:
            return number
        key = self.task.config.score_key
        if isinstance(value, Mapping) and (number := as_number(value.get(key))) is not None:
            return number
        return self._alone(metric, value)

    def _alone(self, metric: str, value: Any) -> float:
        """The aggregation of a metric over one value."""
        if special := _SPECIAL.get(self.task.aggregation()[metric].__name__):
            return special(self.task, value)
        try:
            found = aggregate(self.task, metric, [copy.deepcopy(value)])
        except Exception as error:
            raise self._no_score(metric, f"{type(error).__name__}: {error}") from error
        number = as_number(found)
        if number is None or not math.isfinite(number):
            raise self._no_score(metric, f"it gives {found}")
        return number

    def _no_score(self, metric: str, why: str) -> ParbenchError:
        others = ", ".join(name for name in self.task.aggregation() if name != metric) or "no other"
        return ParbenchError(
            f"metric {metric} of lmms-eval's task {self.task.config.task} says nothing of a single answer ({why}): choose another "
            f"with dataset.metric= (there is {others})"
        )


def aggregate(task: Any, metric: str, values: list[Any]) -> Any:
    """A metric over the values of samples, by the task's own aggregation."""
    function = task.aggregation()[metric]
    given = {"args": task.args} if "args" in inspect.signature(function).parameters else {}
    with silent(), restored(function):
        return function(values, **given)


def as_number(value: Any) -> float | None:
    """A Python or NumPy number or truth value as a float; None for anything else."""
    # numpy.bool_ is not a numbers.Real, but has item().
    if hasattr(value, "item") and getattr(value, "size", None) == 1:
        value = value.item()
    return float(value) if isinstance(value, numbers.Real) else None


def right_answer(task: Any, doc: Mapping[str, Any]) -> Any:
    """The answer that a task scores against: its ``doc_to_target``, or else the column ``answer`` or ``answers``.

    Args:
        task: The lmms-eval task.
        doc: The row.
    """
    stored = doc.get("answer", doc.get("answers"))
    asked = task.config.doc_to_target
    # Many tasks that score by process_results name a column here that their data lack.
    if isinstance(asked, str) and asked not in doc and "{{" not in asked:
        return stored
    try:
        found = task.doc_to_target(copy.deepcopy(dict(doc)))
    except Exception:
        return stored
    return stored if found is None or found == "" else found


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """While open, stdout is discarded: lmms-eval's tasks print into progress bars and tables."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def restored(function: Callable[..., Any]) -> Iterator[None]:
    """Restore the plain dictionaries, lists and sets of a function's module on exit.

    Some aggregations accumulate in a module variable (OCRBench's do), so the second run of a process would also get the
    points of the first.
    """
    found = [value for name, value in getattr(function, "__globals__", {}).items() if name[:2] != "__" and _plain(value)]
    before = [(value, copy.deepcopy(value)) for value in found if isinstance(value, dict | list | set)]
    try:
        yield
    finally:
        for value, old in before:
            value.clear()
            value.extend(old) if isinstance(value, list) else value.update(old)


def _plain(value: Any) -> bool:
    """Whether a value is plain data: it can be copied, and holds no model or client."""
    if isinstance(value, dict):
        return all(_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set):
        return all(map(_plain, value))
    return value is None or isinstance(value, str | bytes | numbers.Number)


def _shown(doc: Mapping[str, Any]) -> str:
    """A row's right answer for an error message."""
    answer = doc.get("answer", doc.get("answers"))
    return repr(answer) if len(repr(answer)) < 80 else f"{repr(answer)[:77]}..."


def _mmbench(task: Any, value: Mapping[str, Any]) -> float:
    """Score of one MMBench row by lmms-eval's rules; its aggregation counts groups and skips a lone rotation."""
    import pandas as pd

    evaluator = task.config.process_results.__globals__["mmbench_evaluator"]
    row = pd.DataFrame([{key.lower() if key not in "ABCD" else key: found for key, found in value.items()}])
    return float(evaluator.eval_sub_data(row, {value["index"]: value["answer"]}, static_only=True))


def _mlvu(_task: Any, value: Mapping[str, Any]) -> float:
    """MLVU's score of one answer; its aggregation is a mean in percent over kinds of questions, which one answer has not."""
    return float(value["pred_answer"] == value["answer"])


# Aggregations that do not work on a single value.
_SPECIAL: dict[str, Callable[[Any, Mapping[str, Any]], float]] = {
    "mmbench_aggregate_dev_results_static": _mmbench,
    "mlvu_aggregate_results_dev": _mlvu,
    "mlvu_aggregate_results_test": _mlvu,
}
