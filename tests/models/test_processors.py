"""Processors of all families on a machine without torchvision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parbench.errors import ParbenchError
from parbench.models.assets import asset
from parbench.models.processors import build_processor, load_processor
from parbench.models.special_tokens import small_tokenizer

pytestmark = pytest.mark.unit


@pytest.fixture
def checkpoint(folder) -> Path:
    """llava-tiny's small files."""
    (folder / "checkpoint").mkdir()
    for path in Path(asset("llava-tiny")).glob("*.json"):
        shutil.copy(path, folder / "checkpoint")
    return folder / "checkpoint"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"processor_class": "LlavaNextProcessor"}, r"another family \(LlavaNextProcessor\).*needs LlavaProcessor"),
        ({"image_processor": {"image_processor_type": "Qwen2VLImageProcessorFast"}}, r"image_grid_thw\) than the model"),
    ],
)
def test_a_processor_of_another_family_is_refused(checkpoint, change, said):
    path = checkpoint / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ParbenchError, match=said):
        load_processor(checkpoint)


def test_a_setting_that_a_family_does_not_have_is_refused():
    from transformers import AutoConfig

    with pytest.raises(ParbenchError, match="qwen2_5_vl has no setting image_grid_pinpoints"):
        build_processor(AutoConfig.for_model("qwen2_5_vl"), small_tokenizer("qwen2_5_vl"), {"image_grid_pinpoints": [[56, 56]]})


def test_a_model_without_an_image_processor_is_refused():
    from transformers import AutoConfig

    with pytest.raises(ParbenchError, match="of type llama have no processor of images"):
        build_processor(AutoConfig.for_model("llama"), small_tokenizer("llava"), {})


def test_conversations_of_smolvlm_need_no_video_processor():
    from transformers import AutoConfig

    processor = build_processor(AutoConfig.for_model("smolvlm"), small_tokenizer("smolvlm"), {"image_seq_len": 4})
    processor.chat_template = "{% for part in messages[0]['content'] %}{{ part['text'] or '<image>' }}{% endfor %}"
    parts = [{"type": "image"}, {"type": "text", "text": "what is it?"}]
    assert processor.apply_chat_template([{"role": "user", "content": parts}]) == "<image>what is it?"
