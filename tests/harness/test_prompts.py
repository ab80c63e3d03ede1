"""The prompt: byte for byte where it is known, and refused where a template loses the question or an image."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import family_miniatures
from helpers import identity_of, refused
from hub_miniature import TYPED_TEMPLATE, build_hub, use_hub
from parbench.errors import ParbenchError
from parbench.harness.prompts import build_prompt, check_template
from parbench.models.processors import load_processor

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
)


@pytest.fixture(scope="module")
def asked(adapter):
    """A model of which only the prompt is looked at."""

    def make(template, prompt="template"):
        processor = SimpleNamespace(tokenizer=adapter.tokenizer, chat_template=template)
        return SimpleNamespace(prompt=prompt, processor=processor, tokenizer=adapter.tokenizer, name="some-llava")

    return make


def test_the_small_models_prompt_is_what_it_always_was(adapter):
    assert build_prompt(adapter, "Is it red?", 1) == "USER: <image>\nIs it red? ASSISTANT:"
    assert build_prompt(adapter, "Is it red?", 0) == "USER: Is it red? ASSISTANT:"
    assert build_prompt(adapter, "Is it red?", 2) == "USER: <image> <image>\nIs it red? ASSISTANT:"
    assert build_prompt(adapter, "Is <image> red,\nor <image>?", 2) == "USER: Is <image> red,\nor <image>? ASSISTANT:"


@pytest.mark.parametrize("template", [TYPED_TEMPLATE, None, "{{ raise_exception('no') }}"])
def test_llava_15_is_asked_as_its_papers_ask_it(asked, template):
    """Whatever its checkpoint brings."""
    seven = asked(template, "vicuna_v1")
    assert build_prompt(seven, "Is it red?", 1) == f"{VICUNA}<image>\nIs it red? ASSISTANT:"
    assert build_prompt(seven, "Is it red?", 0) == f"{VICUNA}Is it red? ASSISTANT:"


PARTS = (
    "{% for m in messages %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
STRING = "{% for m in messages %}[INST] {{ m['content'] | trim }} [/INST]{% endfor %}"
BOTH = (
    "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{{ '<image>|' if p['type'] == 'image' else p['text'] }}{% endfor %}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "images", "prompt"),
    [
        (TYPED_TEMPLATE, 1, "USER: <image>\nIs it red?\n ASSISTANT:"),
        (TYPED_TEMPLATE, 2, "USER: <image>\n<image>\nIs it red?\n ASSISTANT:"),
        (TYPED_TEMPLATE, 0, "USER: Is it red?\n ASSISTANT:"),
        ({"default": PARTS, "tools": ""}, 1, "<image>Is it red?\n"),
        ("{{ bos_token }}" + PARTS, 1, "<image>Is it red?\n"),
        (STRING, 1, "[INST] <image>\nIs it red? [/INST]"),
        (BOTH, 1, "<image>|Is it red?\n"),
    ],
)
def test_messages_are_what_a_template_reads(asked, template, images, prompt):
    assert build_prompt(asked(template), "Is it red?\n", images) == prompt


CHATML = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ASKED = {
    "llava-next-7b": ("USER: <image>\nIs it red? ASSISTANT:", "USER: <image>\n<image>\nIs it red? ASSISTANT:"),
    "llava-next-mistral-7b": ("[INST] <image>\nIs it red? [/INST]", "[INST] <image>\n<image>\nIs it red? [/INST]"),
    "llava-onevision-7b": (
        "<|im_start|>user\n<image>\nIs it red?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\n<image>\n<image>\nIs it red?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen2.5-vl-7b": (
        f"{CHATML}<|im_start|>user\nIMAGEIs it red?<|im_end|>\n<|im_start|>assistant\n",
        f"{CHATML}<|im_start|>user\nIMAGEIMAGEIs it red?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen3-vl-8b": (
        "<|im_start|>user\nIMAGEIs it red?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nIMAGEIMAGEIs it red?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "internvl3-2b": (
        "<|im_start|>user\n<IMG_CONTEXT>\nIs it red?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\n<IMG_CONTEXT>\n<IMG_CONTEXT>\nIs it red?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "smolvlm2-2.2b": (
        "<|im_start|>User:<image>Is it red?<end_of_utterance>\nAssistant:",
        "<|im_start|>User:<image><image>Is it red?<end_of_utterance>\nAssistant:",
    ),
    # The tokenizer adds <bos> itself.
    "gemma3-4b": (
        "<start_of_turn>user\n<start_of_image>Is it red?<end_of_turn>\n<start_of_turn>model\n",
        "<start_of_turn>user\n<start_of_image><start_of_image>Is it red?<end_of_turn>\n<start_of_turn>model\n",
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_other_families_are_asked_with_their_own_placeholders(name, folder):
    processor = load_processor(family_miniatures.write(name, folder / "checkpoint"))
    one = SimpleNamespace(prompt="template", processor=processor, tokenizer=processor.tokenizer, name=name)
    for images, prompt in enumerate(ASKED[name], 1):
        assert build_prompt(one, "Is it red?", images) == prompt.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    placeholder = processor.image_token
    inside = build_prompt(one, "Is <image> red,\nor <image>?", 2)
    assert inside.count(placeholder) == 2
    assert inside.index("Is ") < inside.index(placeholder) < inside.index(" red") < inside.rindex(placeholder) < inside.index("?")
    with pytest.raises(ParbenchError, match="has 2 image placeholders for 1 images"):
        build_prompt(one, f"Is {placeholder} red{'' if placeholder != '<image>' else ' or <image>'}?", 1)


@pytest.mark.parametrize("name", ["llava-onevision-7b", "qwen2.5-vl-7b", "qwen3-vl-8b"])
def test_a_video_has_the_mark_of_videos(name, folder):
    processor = load_processor(family_miniatures.write(name, folder / "checkpoint"))
    one = SimpleNamespace(prompt="template", processor=processor, tokenizer=processor.tokenizer, name=name)
    picture, video = processor.image_token, processor.video_token
    alone = build_prompt(one, "Is it red?", 1)
    assert build_prompt(one, "Is it red?", ["video"]) == alone.replace(picture, video)
    both = build_prompt(one, "Is <image> in <image>?", ["image", "video"])
    assert both.index("Is ") < both.index(picture) < both.index(" in ") < both.index(video) < both.index("?")


def test_a_template_without_videos_says_so(asked):
    with pytest.raises(ParbenchError, match="has no place for a video"):
        build_prompt(asked(TYPED_TEMPLATE), "Is it red?", ["video"])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m['role'] }}: {% endfor %}", "lacks the question"),
        (PARTS.replace("<image>", "<picture>"), "has 0 image placeholders for 1 images"),
        ("<image>" + STRING, "has 1 image placeholders for 0 images"),
        ("{{ raise_exception('no user here') }}", "no user here"),
        ("{% for", "cannot be rendered"),
        (None, "has no chat template"),
    ],
)
def test_a_template_that_cannot_ask_is_refused_before_work(asked, template, said, monkeypatch, adapter):
    monkeypatch.setattr(adapter.tokenizer, "chat_template", None)
    one = asked(template)
    with pytest.raises(ParbenchError, match=said) as refusal:
        check_template(one.processor, one.name)
    assert "model.prompt=vicuna_v1" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("context", "images", "found"), [("Is <image> it?", 0, 1), ("<image> or <image>?", 1, 2), ("<image>?", 2, 1)]
)
@pytest.mark.parametrize("prompt", ["template", "vicuna_v1"])
def test_a_question_with_other_placeholders_than_images_is_refused(asked, prompt, context, images, found):
    with pytest.raises(ParbenchError, match=f"has {found} image placeholders for {images} images"):
        build_prompt(asked(TYPED_TEMPLATE, prompt), context, images)


def test_the_command_refuses_a_template_that_drops_the_question(run, settings, folder):
    checkpoint = Path(shutil.copytree(settings["path"], folder / "checkpoint"))
    (checkpoint / "chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] }}: {% endfor %}")
    said = refused(run, "eval", f"model.path={checkpoint}", "method=none", "limit=1", "results_dir=runs")
    assert "lacks the question" in said
    assert not (folder / "runs").exists()
    assert "did you mean vicuna_v1" in refused(run, "eval", "model.prompt=vicuna", "method=none")


def test_the_checkpoint_as_published_is_asked_with_the_conversation_of_the_papers(run, folder, monkeypatch):
    """Its template makes nothing of a string."""
    use_hub(monkeypatch, build_hub(folder / "hub"))
    asked = []
    monkeypatch.setattr("parbench.harness.lmms_model.build_prompt", lambda *of: asked.append(build_prompt(*of)) or asked[-1])
    for prompt, begin in (("vicuna_v1", f"{VICUNA}<image>\n"), ("template", "USER: <image>\n")):
        words = ("model=llava-1.5-7b", "model.dtype=float32", f"model.prompt={prompt}", "method=none", "limit=2")
        code, _, err = run("eval", *words, "results_dir=runs")
        assert code == 0, err
        assert all(text.startswith(begin) and text.endswith("? ASSISTANT:") for text in asked)
        assert asked.clear() is None
    known = [identity_of(path.parent) for path in (folder / "runs").glob("*/provenance.json")]
    assert {run["prompt"] for run in known} == {"vicuna_v1", "template"}
