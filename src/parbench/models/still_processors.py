"""Processors of families that also read videos, without their video half.

Hugging Face constructs them only around a video processor, and video processors only where torchvision imports. Still images need
neither.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any


def reads_videos(family: type) -> bool:
    """Whether a processor's class has a video half."""
    return "video_processor" in inspect.signature(family.__init__).parameters  # type: ignore[misc]


@cache
def still(family: type) -> Any:
    """A processor's class without its video half: ``still(family)(image_processor, tokenizer, **settings)``.

    Everything else is the class's own: it is a subclass of the same name.
    """
    from transformers import ProcessorMixin

    class WithoutVideo(ProcessorMixin):
        """What the family's constructor calls in place of ``ProcessorMixin``'s own: it accepts that there is no video processor."""

        def __init__(self, *parts: Any, **named: Any) -> None:
            super().__init__(*(part for part in parts if part is not None), **named)

    # What a processor consists of is read off this signature.
    def construct(self: Any, image_processor: Any = None, tokenizer: Any = None, **settings: Any) -> None:
        own(self, image_processor=image_processor, tokenizer=tokenizer, video_processor=None, **settings)

    own: Any = family.__init__  # type: ignore[misc]
    members: dict[str, Any] = {"__init__": construct, "__module__": family.__module__, "__doc__": family.__doc__}
    if family.__name__ == "SmolVLMProcessor":
        own = _smolvlm_init
        members["apply_chat_template"] = _apply_chat_template
    return type(family.__name__, (family, WithoutVideo), members)


def _smolvlm_init(
    self: Any,
    image_processor: Any,
    tokenizer: Any,
    video_processor: None,
    image_seq_len: int = 169,
    chat_template: str | None = None,
) -> None:
    """The constructor of SmolVLM's processor, without num2words, which only prompts of videos need."""
    from transformers import SmolVLMProcessor

    self.fake_image_token = getattr(tokenizer, "fake_image_token", "<fake_token_around_image>")
    self.image_token = getattr(tokenizer, "image_token", "<image>")
    self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
    self.end_of_utterance_token = getattr(tokenizer, "end_of_utterance_token", "<end_of_utterance>")
    self.global_image_token = getattr(tokenizer, "global_image_token", "<global-img>")
    self.image_seq_len = image_seq_len
    self.video_token = getattr(tokenizer, "video_token", "<video>")
    super(SmolVLMProcessor, self).__init__(image_processor, tokenizer, chat_template=chat_template)


def _apply_chat_template(self: Any, *arguments: Any, **named: Any) -> Any:
    """``ProcessorMixin``'s; SmolVLM's own asks its video processor for frames, whatever the conversation contains."""
    from transformers import SmolVLMProcessor

    return super(SmolVLMProcessor, self).apply_chat_template(*arguments, **named)
