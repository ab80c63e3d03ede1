"""Scores for a user's own questions, by lmms-eval's functions for the benchmarks that define each score."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Any

# The fewest annotators with which VQA accuracy can reach 1: it leaves one out and needs three that agree.
VOTES = 4


def exact(said: str, doc: Mapping[str, Any]) -> float:
    """1 if the text equals one of the answers, ignoring case and a final full stop; else 0."""
    return float(_plain(said) in map(_plain, doc["answers"]))


def vqa(said: str, doc: Mapping[str, Any]) -> float:
    """VQA accuracy (arXiv 1505.00468): the number of annotators who agree, over three, at most 1; by lmms-eval's VQAv2."""
    from lmms_eval.tasks.vqav2.utils import vqav2_process_results_val

    # Equal answers of several annotators count several times.
    answers = [{"answer": answer, "answer_id": number} for number, answer in enumerate(doc["answers"])]
    return float(vqav2_process_results_val({"answers": answers, "question_id": doc["question_id"]}, [said])["exact_match"])


def choice(said: str, doc: Mapping[str, Any]) -> float:
    """1 for the right option's letter as lmms-eval extracts it, or for its text; else 0."""
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer

    letters = list(string.ascii_uppercase[: len(doc["choices"])])
    by_text = [letter for letter, text in zip(letters, doc["choices"], strict=True) if _plain(text) == _plain(said)]
    found = by_text[0] if by_text else extract_mcq_answer(said, letters)
    return float(found in doc["answers"])


def anls(said: str, doc: Mapping[str, Any]) -> float:
    """Average normalised Levenshtein similarity (arXiv 1905.13648), 0 if below 0.5, by lmms-eval's metric."""
    from lmms_eval.api.metrics import anls as metric

    return float(metric(doc["answers"], [said])["anls"])


def relaxed(said: str, doc: Mapping[str, Any]) -> float:
    """1 for a number within 5 % of the right one, or for the same text; by lmms-eval's ChartQA (arXiv 2203.10244)."""
    from lmms_eval.tasks.chartqa.utils import relaxed_correctness

    return float(any(relaxed_correctness(said.strip().rstrip("."), answer) for answer in doc["answers"]))


def _plain(text: str) -> str:
    return text.strip().rstrip(".").strip().lower()


SCORINGS: dict[str, Callable[[str, Mapping[str, Any]], float]] = {
    "exact": exact,
    "vqa": vqa,
    "choice": choice,
    "anls": anls,
    "relaxed": relaxed,
}
