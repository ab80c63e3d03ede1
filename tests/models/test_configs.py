"""Sizes in ``conf/model``: each builds the published model, and its processor counts the published tokens."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from parbench.config import compose_config
from parbench.config.groups import names
from parbench.config.plain import option
from parbench.errors import ParbenchError
from parbench.models.configs import config_of
from parbench.models.processors import build_processor
from parbench.models.special_tokens import small_tokenizer, special_tokens, take_ids

pytestmark = pytest.mark.unit

# Millions of parameters of vision tower, connector, and language model with its head, which the bytes of the published weights
# confirm, except those of idefics3-8b, which follow from its parts (SigLIP at 364 pixels and Llama 3.1 8B). Towers of Qwen's
# contain their connectors.
PARAMETERS = {
    "gemma3-4b": (416.9, 3.0, 3880),
    "idefics3-8b": (412.9, 18.9, 8030),
    "internvl3-2b": (304.0, 8.7, 1776),
    "internvl3-8b": (304.0, 27.5, 7613),
    "llava-next-13b": (303.5, 31.5, 13017),
    "llava-next-7b": (303.5, 21.0, 6739),
    "llava-next-mistral-7b": (303.5, 21.0, 7242),
    "llava-next-video-7b": (303.5, 21.0, 6739),
    "llava-onevision-0.5b": (397.7, 1.8, 494),
    "llava-onevision-7b": (397.7, 17.0, 7615),
    "qwen2-vl-7b": (675.8, 0.0, 7616),
    "qwen2.5-vl-3b": (668.7, 0.0, 3086),
    "qwen2.5-vl-7b": (676.6, 0.0, 7616),
    "qwen2.5-vl-72b": (704.6, 0.0, 72706),
    "qwen3-vl-4b": (415.3, 0.0, 4022),
    "qwen3-vl-8b": (576.4, 0.0, 8191),
    "smolvlm2-2.2b": (413.0, 21.2, 1813),
}
# Visual tokens of an image of 336 x 336, 672 x 672, 1024 x 768 and 1920 x 1080 pixels.
TOKENS = {
    "llava-next-7b": (1176, 2928, 2340, 1948),
    "llava-next-video-7b": (1176, 2928, 2340, 1948),
    "llava-onevision-0.5b": (1485, 3699, 4725, 7269),
    "qwen2-vl-7b": (144, 576, 999, 2691),
    "qwen2.5-vl-7b": (144, 576, 999, 2691),
    "qwen3-vl-4b": (100, 441, 768, 2040),
    "internvl3-2b": (256, 1280, 3328, 2304),
    "idefics3-8b": (2873, 2873, 2197, 2197),
    "smolvlm2-2.2b": (1377, 1377, 1053, 1053),
    "gemma3-4b": (256, 256, 256, 256),
}
# Models that prepare images as another one does.
SAME = {
    "llava-next-mistral-7b": "llava-next-7b",
    "llava-next-13b": "llava-next-7b",
    "llava-onevision-7b": "llava-onevision-0.5b",
    "qwen2.5-vl-3b": "qwen2.5-vl-7b",
    "qwen2.5-vl-72b": "qwen2.5-vl-7b",
    "qwen3-vl-8b": "qwen3-vl-4b",
    "internvl3-8b": "internvl3-2b",
}
SIZES = ((336, 336), (672, 672), (1024, 768), (1920, 1080))


@cache
def model(name: str) -> dict:
    return option("model", name)


def test_every_model_with_a_processor_is_checked_here():
    assert {name for name in names("model") if "processor" in model(name)} == set(PARAMETERS) == {*TOKENS, *SAME}


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_the_parameters_of_the_published_weights(name):
    with torch.device("meta"):
        built = AutoModelForImageTextToText.from_config(config_of(model(name)))
    language = built.model.get_decoder()
    head = built.lm_head if built.lm_head.weight is not language.embed_tokens.weight else None
    text = millions(language) + (millions(head) if head else 0)
    tower, connector, language_model = PARAMETERS[name]
    assert text == pytest.approx(language_model, abs=0.6)
    assert millions(built) - text == pytest.approx(tower + connector, abs=0.11)


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("name", TOKENS)
def test_its_processor_counts_the_published_tokens(name):
    config = config_of(model(name))
    tokenizer = small_tokenizer(config.model_type)
    take_ids(config, tokenizer)
    processor = build_processor(config, tokenizer, model(name)["processor"])
    prompt = special_tokens(config.model_type).placeholder
    counts = []
    for size in SIZES:
        inputs = processor(images=[[Image.new("RGB", size)]], text=[prompt])
        counts.append(list(inputs["input_ids"][0]).count(config.image_token_id))
    assert tuple(counts) == TOKENS[name]


@pytest.mark.parametrize(("name", "other"), SAME.items())
def test_models_of_a_family_prepare_images_alike(name, other):
    assert model(name)["processor"] == model(other)["processor"]
    assert model(name)["geometry"]["model_type"] == model(other)["geometry"]["model_type"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_processor_fits_the_model(name):
    """What both configurations say, both say alike."""
    geometry, processor = model(name)["geometry"], model(name)["processor"]
    shared = geometry.keys() & processor.keys()
    assert {key: geometry[key] for key in shared} == {key: processor[key] for key in shared}
    patch = geometry["vision"]["patch_size"]
    assert processor.get("patch_size", patch) == patch


def test_sizes_as_hydra_composes_them_are_the_same():
    composed = compose_config(["model=qwen2.5-vl-7b"]).model
    assert config_of(composed).to_dict() == config_of(model("qwen2.5-vl-7b")).to_dict()


@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        ({"model_type": "qwen9_vl", "vision": {}, "text": {}}, "qwen9_vl of mine is no model type of transformers"),
        ({"model_type": "gemma3", "vision": {"model_type": "nothing"}, "text": {}}, "geometry of mine does not fit together"),
        ({"model_type": "gemma3", "vision": {}, "text": {"hidden_size": "wide"}}, "does not fit together: .*hidden_size"),
    ],
)
def test_impossible_sizes_are_refused(geometry, said):
    with pytest.raises(ParbenchError, match=said):
        config_of({"name": "mine", "geometry": geometry})
