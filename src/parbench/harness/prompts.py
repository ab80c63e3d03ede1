"""From an lmms-eval context to the prompt that the model is given."""

from __future__ import annotations

from typing import Any

IMAGE = "<image>"

# LLaVA-1.5 was trained with Vicuna's v1 conversation; checkpoints whose tokenizer brings no template get it, as in lmms-eval.
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def build_prompt(tokenizer: Any, context: str, images: int) -> str:
    """The chat prompt for a context with so many images; placeholders go before it unless it has its own."""
    if images and IMAGE not in context:
        context = f"{' '.join([IMAGE] * images)}\n{context}"
    if tokenizer.chat_template is None:
        return f"{VICUNA_SYSTEM} USER: {context} ASSISTANT:"
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": context}], tokenize=False, add_generation_prompt=True
    )
