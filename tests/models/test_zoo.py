"""The tiny models of all families: each reads images and generates, and its answer depends on the image."""

from __future__ import annotations

import pytest
import torch

import zoo

pytestmark = [pytest.mark.model, pytest.mark.smoke]


# Visual tokens of three images, as the processors of transformers 5.23 count them.
TOKENS = {
    "llava": (16, 16, 16),
    "llava_next": (36, 70, 52),
    "llava_next_video": (36, 70, 52),
    "llava_onevision": (36, 70, 94),
    "qwen2_vl": (4, 12, 10),
    "qwen2_5_vl": (4, 12, 10),
    "qwen3_vl": (4, 12, 8),
    "internvl": (4, 28, 12),
    "idefics3": (40, 40, 28),
    "smolvlm": (40, 40, 28),
    "gemma3": (4, 4, 4),
}
SIZES = ((56, 56), (112, 84), (130, 60))


@pytest.mark.parametrize("name", zoo.FAMILIES)
def test_it_generates_from_several_images_of_several_sizes(name):
    model, processor, placeholder = zoo.FAMILIES[name]()
    assert model.config.model_type == name

    def ask(*seeds: int) -> tuple[torch.Tensor, dict]:
        pictures = [[zoo.image(*size, seed)] for size, seed in zip(SIZES, seeds, strict=True)]
        prompts = [f"USER: {placeholder}\nwhat colour is the sign? ASSISTANT:"] * len(SIZES)
        inputs = processor(images=pictures, text=prompts, return_tensors="pt", padding=True)
        return model.generate(**inputs, max_new_tokens=4, do_sample=False), inputs

    answers, inputs = ask(0, 1, 2)
    assert (inputs["input_ids"] == model.config.image_token_id).sum(1).tolist() == list(TOKENS[name])
    others, _ = ask(3, 4, 5)
    assert not torch.equal(answers, others), "the answer does not depend on the image"
