"""Finds the question in a prompt, for prompt-aware methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.errors import ParbenchError, UnfitSample
from parbench.harness.prompts import build_prompt

if TYPE_CHECKING:
    from torch import Tensor

    from parbench.models.adapter import ModelAdapter

_PROBE = "What is it?"
# The marks of LLaVA-1.5's conversations.
_USUAL = ("USER:", "ASSISTANT:")


class QuestionFinder:
    """Finds the last question of prompts, between the marks of the model's chat template, or those of LLaVA-1.5.

    Args:
        adapter: The model; its chat template determines what comes before and after a question.
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        self._adapter = adapter
        self._marks = [marks for marks in (self._template_marks(), _USUAL) if marks]

    def __call__(self, ids: Tensor) -> str:
        """The question in a prompt's token ids [S]; the whole text if no marks are found."""
        text = self._text(ids)
        for user, assistant in self._marks:
            _, found, rest = text.rpartition(user)
            if found:
                return (rest.partition(assistant)[0] if assistant else rest).strip()
        return text.strip()

    def _text(self, ids: Tensor) -> str:
        """The prompt's text without image placeholders and special tokens."""
        return self._adapter.decode(ids[ids != self._adapter.image_token_id].tolist())

    def _template_marks(self) -> tuple[str, str] | None:
        """The text before and after a question; None if there is no template, or nothing comes before the question."""
        try:
            prompt = build_prompt(self._adapter, _PROBE, 1)
        except (ParbenchError, UnfitSample):
            return None
        ids = self._adapter.tokenizer(prompt, return_tensors="pt").input_ids[0]
        before, found, after = self._text(ids).partition(_PROBE)
        if not found or not before.split():
            return None
        return before.split()[-1], (after.split() or [""])[0]
