"""Checkpoints of every family open as they are published: names, shards, heads, processors, templates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import family_miniatures
import zoo
from parbench.config.plain import option
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.families import FAMILIES
from parbench.models.loading import load_model
from parbench.models.special_tokens import SPECIAL_TOKENS
from parbench.models.unsupported import SUPPORTED

pytestmark = pytest.mark.model


def opened(name: str, folder: Path, **changes):
    return load_model({**option("model", name), "path": str(folder), "dtype": "float32", "device": "cpu", **changes})


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


@pytest.mark.parametrize("name", family_miniatures.NAMES)
def test_every_tensor_arrives_and_a_question_is_answered(checkpoint, name):
    folder = checkpoint(name)
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 4 << 20
    model, processor, _ = opened(name, folder)
    names, tensors = family_miniatures.names_of(name), stored(folder)
    ours = {family_miniatures.hub_name(key, names): value for key, value in model.state_dict().items()}
    for key, value in tensors.items():
        torch.testing.assert_close(ours.pop(key), value.float(), rtol=0, atol=0)
    # What is not stored is the head, tied to the embeddings.
    assert list(ours) in ([], ["lm_head.weight"], ["language_model.lm_head.weight"])
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == bool(ours)

    content = [{"type": "image"}, {"type": "text", "text": "what colour is the sign?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    assert "what colour is the sign?" in prompt
    answers = []
    for seed in (0, 1):
        inputs = processor(images=[[zoo.image(130, 60, seed)]], text=[prompt], return_tensors="pt")
        assert (inputs["input_ids"] == model.config.image_token_id).any()
        answers.append(model(**inputs).logits[0, -1])
    assert processor.tokenizer.padding_side == "left"
    assert not torch.allclose(*answers), "the answer does not depend on the image"


@pytest.mark.parametrize(
    ("name", "gone", "said"),
    [
        ("qwen2.5-vl-7b", "visual.blocks.1.attn.qkv.weight", "missing tensors"),
        ("llava-onevision-7b", "language_model.lm_head.weight", "missing tensors"),
        ("internvl3-2b", "multi_modal_projector.linear_1.bias", "missing tensors"),
    ],
)
def test_a_missing_tensor_is_named(checkpoint, folder, name, gone, said):
    damaged = Path(shutil.copytree(checkpoint(name), folder / "damaged"))
    for path in damaged.glob("*.safetensors"):
        save_file({key: value for key, value in load_file(path).items() if key != gone}, path, {"format": "pt"})
    with pytest.raises(ParbenchError, match=said):
        opened(name, damaged)


def test_limits_of_pixels_come_from_the_files_or_the_settings(checkpoint):
    from parbench.models.processors import load_processor

    folder = checkpoint("qwen2.5-vl-7b")

    def tokens(**settings) -> int:
        processor = load_processor(folder, settings)
        return list(processor(images=[zoo.image(336, 336)], text=["<|image_pad|>"])["input_ids"][0]).count(processor.image_token_id)

    assert [tokens(), tokens(min_pixels=256 * 784), tokens(max_pixels=16 * 784)] == [144, 256, 16]
    for settings, said in (
        ({"min_pixels": "many"}, "not a number of pixels"),
        ({"min_pixels": 2000, "max_pixels": 1000}, "is above"),
        ({"max_pixels": 100}, "least number of pixels"),
    ):
        with pytest.raises(ParbenchError, match=said):
            tokens(**settings)
    with pytest.raises(ParbenchError, match="has no limits of pixels"):
        load_processor(checkpoint("gemma3-4b"), {"max_pixels": 1000})


def test_the_processor_of_another_family_is_refused(checkpoint, folder):
    mixed = Path(shutil.copytree(checkpoint("llava-next-7b"), folder / "mixed"))
    shutil.copy(checkpoint("qwen2-vl-7b") / "preprocessor_config.json", mixed)
    with pytest.raises(ParbenchError, match=r"preprocessor_config.json is of another family \(Qwen2VLProcessor\)"):
        opened("llava-next-7b", mixed)


def test_a_model_type_that_works_alike_opens_with_a_warning(folder, caplog):
    family_miniatures.write_checkpoint(family_miniatures.vip_llava(), folder / "vip")
    settings = {**option("model", "llava-1.5-7b"), "path": str(folder / "vip"), "dtype": "float32", "device": "cpu"}
    adapter = ModelAdapter.load(settings)
    assert adapter.model.config.model_type == "vipllava"
    assert "vipllava" in caplog.text
    assert "generic" in caplog.text


def test_the_types_that_are_opened_are_those_of_the_families():
    assert set(SUPPORTED) == {kind for family in FAMILIES for kind in family.model_types} == set(SPECIAL_TOKENS)
