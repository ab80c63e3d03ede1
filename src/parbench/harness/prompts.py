"""Builds the model's prompt from an lmms-eval context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from parbench.clips import Visuals, kinds_of
from parbench.errors import ParbenchError, UnfitSample

if TYPE_CHECKING:
    from parbench.models.adapter import ModelAdapter

# What a question contains for an image, in lmms-eval's tasks; the models' own placeholders may be others.
IMAGE = "<image>"

# LLaVA-1.5 was trained with Vicuna's v1 conversation, and papers evaluate with it. The chat template in its checkpoints
# omits the system prompt.
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_PROBE = "Which of these two is it?"


# A question and its answer.
Exchange = tuple[str, str]


def build_prompt(adapter: ModelAdapter, context: str, images: Visuals, earlier: Sequence[Exchange] = ()) -> str:
    """The prompt for a context, with one placeholder per visual, in front of the text unless that has ``<image>`` itself.

    Args:
        adapter: The model; its ``prompt`` selects its chat template or Vicuna's v1 conversation.
        context: The question as lmms-eval formats it.
        images: Its number of images, or the kind of each visual. ``<image>`` stands for a video too.
        earlier: The conversation so far. The images are in front of its first question.

    Raises:
        ParbenchError: The model's template drops every question, or its images.
        UnfitSample: The template drops this question, or the question has another number of placeholders than images.
    """
    marks = _Marks(_placeholder(adapter.processor), _placeholder(adapter.processor, "video"), kinds_of(images))
    if adapter.prompt == "vicuna_v1":
        prompt = f"{VICUNA_SYSTEM} {_vicuna(context, marks, earlier)}"
    else:
        template = _template(adapter.processor, adapter.name)
        typed = _reads_parts(adapter.tokenizer, template, marks.image)
        prompt = _render(adapter.tokenizer, template, context, marks, typed=typed, earlier=earlier)
    said = [text for exchange in earlier for text in exchange]
    if wrong := _what_is_wrong(prompt, IMAGE.join([*said, context]), marks):
        if "video" in wrong and IMAGE not in context:
            raise UnfitSample(f"a prompt {wrong}: the model's chat template has no place for a video")
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
    _reads_parts(processor.tokenizer, _template(processor, name), _placeholder(processor))


@dataclass(frozen=True)
class _Marks:
    """What stands in a prompt for the visuals of a question.

    Attributes:
        image: The processor's placeholder of an image.
        video: That of a video.
        kinds: The kind of each visual.
    """

    image: str
    video: str
    kinds: tuple[str, ...] = ()

    def of(self, place: int) -> str:
        """The placeholder of a visual; of an image for one that does not exist."""
        return self.video if self.kinds[place : place + 1] == ("video",) else self.image

    @property
    def all(self) -> list[str]:
        """The placeholder of each visual."""
        return [self.of(place) for place in range(len(self.kinds))]


def _placeholder(processor: Any, kind: str = "image") -> str:
    """What the processor expands to the visual tokens of an image or a video."""
    return str(getattr(processor, f"{kind}_token", f"<{kind}>"))


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
def _reads_parts(tokenizer: Any, template: str, placeholder: str) -> bool:
    """Whether the template expects a message's content as a list of typed parts rather than a string.

    Raises:
        ParbenchError: The template renders neither.
    """
    wrong, asked = {}, [_Marks(placeholder, "<video>", ("image",) * images) for images in (0, 1)]
    for typed in (True, False):
        try:
            rendered = [_render(tokenizer, template, _PROBE, marks, typed=typed) for marks in asked]
        except Exception as error:  # A template is a program and may raise anything.
            wrong[typed] = f"cannot be rendered ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            continue
        found = [_what_is_wrong(prompt, _PROBE, marks) for marks, prompt in zip(asked, rendered, strict=True)]
        wrong[typed] = next((text for text in found if text), "")
    if all(wrong.values()):
        raise ParbenchError(
            f"the checkpoint's chat template cannot ask a question: its prompt {wrong[True]}; use model.prompt=vicuna_v1 for a "
            "LLaVA-1.5, or mend chat_template.jinja"
        )
    if any(wrong.values()):
        return not wrong[True]
    if placeholder != IMAGE:
        return True
    # If both give the same for one image, several placeholders go on one line, as in lmms-eval.
    one = [_render(tokenizer, template, _PROBE, asked[1], typed=typed) for typed in (True, False)]
    return one[0] != one[1]


def _vicuna(context: str, marks: _Marks, earlier: Sequence[Exchange]) -> str:
    """The turns of Vicuna's v1 conversation."""
    questions = [*(question for question, _ in earlier), context]
    questions[0] = _with_placeholders(questions[0], marks)
    done = "".join(f"USER: {text} ASSISTANT: {answer}</s>" for text, (_, answer) in zip(questions, earlier, strict=False))
    return f"{done}USER: {questions[-1]} ASSISTANT:"


def _render(
    tokenizer: Any,
    template: str,
    context: str,
    marks: _Marks,
    *,
    typed: bool,
    earlier: Sequence[Exchange] = (),
) -> str:
    none = replace(marks, kinds=())

    def message(role: str, text: str, marks: _Marks) -> dict[str, Any]:
        return {"role": role, "content": _parts(text, marks) if typed else _with_placeholders(text, marks)}

    messages: list[dict[str, Any]] = []
    for question, answer in earlier:
        messages += [message("user", question, none if messages else marks), message("assistant", answer, none)]
    messages.append(message("user", context, none if messages else marks))
    rendered: str = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    begin = tokenizer.bos_token
    # Most tokenizers add it themselves, and a second one would change the prompt.
    if begin and rendered.startswith(begin) and tokenizer("a").input_ids[0] == tokenizer.bos_token_id:
        return rendered.removeprefix(begin)
    return rendered


def _parts(context: str, marks: _Marks) -> list[dict[str, str]]:
    """A message as typed parts: visuals first, or where the context has ``<image>``."""
    if IMAGE not in context:
        return [*({"type": kind} for kind in marks.kinds), {"type": "text", "text": context}]
    if marks.image == IMAGE:
        return [{"type": "text", "text": _with_placeholders(context, marks)}]
    first, *others = context.split(IMAGE)
    parts = [{"type": "text", "text": first}]
    for place, text in enumerate(others):
        parts += [{"type": "video" if marks.of(place) == marks.video else "image"}, {"type": "text", "text": text}]
    return [part for part in parts if part.get("text") != ""]


def _with_placeholders(context: str, marks: _Marks) -> str:
    if marks.kinds and IMAGE not in context:
        return f"{' '.join(marks.all)}\n{context}"
    first, *others = context.split(IMAGE)
    return first + "".join(marks.of(place) + text for place, text in enumerate(others))


def _what_is_wrong(prompt: str, context: str, marks: _Marks) -> str:
    """What a prompt lacks of its question, in words; empty if nothing. Differences in white space are allowed."""
    rest = " ".join(prompt.split())
    for text in filter(str.strip, context.split(IMAGE)):
        _, found, rest = rest.partition(" ".join(text.split()))
        if not found:
            return "lacks the question"
    for kind, mark in (("image", marks.image), ("video", marks.video)):
        wanted = marks.kinds.count(kind)
        # Text of a question about images may hold another family's mark of a video.
        if (count := prompt.count(mark)) != wanted and (kind == "image" or wanted):
            return f"has {count} {kind} placeholders for {wanted} {kind}s"
    return ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
