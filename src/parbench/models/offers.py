"""What methods may need of a family of models, by name and in words."""

from __future__ import annotations

# What a method needs, as a refusal says it.
OFFERS = {
    "attention": "a vision tower whose attention can be read",
    "cls": "the attention of a CLS token in the vision tower",
    "received": "a vision tower without CLS token, whose attention can be read",
    "projector": "features in front of the connector, with a CLS token",
    "text": "a CLIP text tower that fits the vision tower",
    "merging": "a vision tower in which tokens can be merged",
    "pixels": "a vision tower that takes images of other sizes",
    "grid": "one grid of visual tokens for an image",
    "parts": "a grid of visual tokens in each part of an image",
    "causal": "visual tokens that see only earlier ones",
    "frames": "the frames of a video",
    "heads": "attention heads in the LLM that share no keys",
}
# What LLaVA-1.5 has.
EVERYTHING = frozenset(OFFERS) - {"received", "frames"}
