"""Builds the model's prompt from an lmms-eval context."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from parbench.errors import ParbenchError, UnfitSample

if TYPE_CHECKING:
    from parbench.models.adapter import LlavaAdapter

IMAGE = "<image>"

# LLaVA-1.5 was trained with Vicuna's v1 conversation, and papers evaluate with it. The chat template in its checkpoints
# omits the system prompt.
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_PROBE = "Which of these two is it?"


def build_prompt(adapter: LlavaAdapter, context: str, images: int) -> str:
    """The prompt for a context, with one placeholder per image, in front of the text unless it contains its own.

    Args:
        adapter: The model; its ``prompt`` selects its chat template or Vicuna's v1 conversation.
        context: The question as lmms-eval formats it.
        images: Its number of images.

    Raises:
        ParbenchError: The model's template drops every question, or its images.
        UnfitSample: The template drops this question, or the question has another number of placeholders than images.
    """
    if adapter.prompt == "vicuna_v1":
        prompt = f"{VICUNA_SYSTEM} USER: {_with_placeholders(context, images)} ASSISTANT:"
    else:
        template = _template(adapter.processor, adapter.name)
        prompt = _render(adapter.tokenizer, template, context, images, typed=_reads_parts(adapter.tokenizer, template))
    if wrong := _what_is_wrong(prompt, context, images):
        raise UnfitSample(
            f"a prompt {wrong}: they must agree, so write {IMAGE} once for each image, or leave it out of the question"
            if "placeholders" in wrong
            else f"a prompt {wrong} '{_short(context)}': the model's chat template drops it"
        )
    return prompt


def check_template(processor: Any, name: str) -> None:
    """Check that the chat template of a processor renders questions with and without images.

    Raises:
        ParbenchError: It does not; the message says what is lost.
    """
    _reads_parts(processor.tokenizer, _template(processor, name))


def _template(processor: Any, name: str) -> str:
    """The chat template, which belongs to the processor in some checkpoints and to the tokenizer in others."""
    found = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    if not found:
        raise ParbenchError(
            f"the checkpoint of {name} has no chat template: use model.prompt=vicuna_v1 for a LLaVA-1.5, or add the template as "
            "chat_template.jinja"
        )
    return str(found)


@lru_cache(maxsize=8)
def _reads_parts(tokenizer: Any, template: str) -> bool:
    """Whether the template expects a message's content as a list of typed parts rather than a string.

    Raises:
        ParbenchError: The template renders neither.
    """
    wrong = {}
    for typed in (True, False):
        try:
            rendered = [_render(tokenizer, template, _PROBE, images, typed=typed) for images in (0, 1)]
        except Exception as error:  # A template is a program and may raise anything.
            wrong[typed] = f"cannot be rendered ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            continue
        found = [_what_is_wrong(prompt, _PROBE, images) for images, prompt in enumerate(rendered)]
        wrong[typed] = next((text for text in found if text), "")
    if all(wrong.values()):
        raise ParbenchError(
            f"the checkpoint's chat template cannot ask a question: its prompt {wrong[True]}; use model.prompt=vicuna_v1 for a "
            "LLaVA-1.5, or mend chat_template.jinja"
        )
    if any(wrong.values()):
        return not wrong[True]
    # If both give the same for one image, several placeholders go on one line, as in lmms-eval.
    one = [_render(tokenizer, template, _PROBE, 1, typed=typed) for typed in (True, False)]
    return one[0] != one[1]


def _render(tokenizer: Any, template: str, context: str, images: int, *, typed: bool) -> str:
    content: Any = _with_placeholders(context, images)
    if typed:
        pictures = [] if IMAGE in context else [{"type": "image"}] * images
        content = [*pictures, {"type": "text", "text": context}]
    rendered: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    begin = tokenizer.bos_token
    # Most tokenizers add it themselves, and a second one would change the prompt.
    if begin and rendered.startswith(begin) and tokenizer("a").input_ids[0] == tokenizer.bos_token_id:
        return rendered.removeprefix(begin)
    return rendered


def _with_placeholders(context: str, images: int) -> str:
    return f"{' '.join([IMAGE] * images)}\n{context}" if images and IMAGE not in context else context


def _what_is_wrong(prompt: str, context: str, images: int) -> str:
    """What a prompt lacks of its question, in words; empty if nothing. Differences in white space are allowed."""
    if " ".join(context.split()) not in " ".join(prompt.split()):
        return "lacks the question"
    if (found := prompt.count(IMAGE)) != images:
        return f"has {found} image placeholders for {images} images"
    return ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
