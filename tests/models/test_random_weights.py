"""Random weights of every family, with a processor made from settings."""

from __future__ import annotations

import pytest

import family_miniatures
import zoo
from parbench.config.plain import option
from parbench.errors import ParbenchError
from parbench.models.random_weights import random_model

pytestmark = pytest.mark.model

TILES = {"size": {"height": 56, "width": 56}, "image_seq_length": 4}
# Settings of processors where a miniature's differ from the published ones.
SMALL = {"qwen3-vl-8b": {}, "gemma3-4b": TILES, "internvl3-8b": TILES}


def settings(name: str, **changes) -> dict:
    """A model of conf/model with a miniature's sizes."""
    config = dict(family_miniatures.config_of(name))
    vision, text = config.pop("vision_config"), {**config.pop("text_config"), "vocab_size": 300}
    published = option("model", name)
    return {
        **published,
        "weights": "random",
        "device": "cpu",
        "dtype": "float32",
        "geometry": {**config, "vision": vision, "text": text},
        "processor": {**published["processor"], **SMALL[name]},
        **changes,
    }


@pytest.mark.parametrize("name", SMALL)
def test_it_has_the_layers_asked_for_and_reads_an_image(name):
    model, processor = random_model(settings(name, llm_layers=2))
    assert len(model.model.language_model.layers) == 2
    content = [{"type": "image"}, {"type": "text", "text": "what colour is it?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=[[zoo.image(112, 84)]], text=[prompt], return_tensors="pt")
    images = int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert images >= 4
    again, _ = random_model(settings(name, llm_layers=2))
    assert model(**inputs).logits.equal(again(**inputs).logits)


def test_without_geometry_the_checkpoints_own_processor_is_used(folder):
    family_miniatures.write("qwen2-vl-7b", folder / "checkpoint")
    own = {"weights": "random", "geometry": None, "processor": None, "path": str(folder / "checkpoint"), "device": "cpu"}
    model, processor = random_model({**option("model", "qwen2-vl-7b"), **own})
    assert model.config.image_token_id == processor.image_token_id
    assert type(processor).__name__ == "Qwen2VLProcessor"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"llm_layers": 7}, "use 1 to 6"),
        ({"processor": None}, "write model.processor"),
        ({"processor": {"min_pixel": 1}}, "has no setting min_pixel"),
    ],
)
def test_what_does_not_fit_is_refused(changes, said):
    with pytest.raises(ParbenchError, match=said):
        random_model(settings("qwen3-vl-8b", **changes))
