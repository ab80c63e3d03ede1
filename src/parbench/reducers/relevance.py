"""What methods have in common that compare patches with text in CLIP's joint space or, by choice, in the LLM's."""

from __future__ import annotations

from parbench.reducers import Reducer


class ComparesText(Reducer):
    """Compares patches with text in CLIP's joint space; with the field ``space`` set to ``llm``, in the LLM's embedding space."""

    space: str | None

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: in the LLM's space, no text tower."""
        return super().wants - ({"text"} if self.space == "llm" else set())

    @property
    def needs_clip(self) -> bool:
        """Whether patches are compared with text in CLIP's joint space."""
        return self.space != "llm"
