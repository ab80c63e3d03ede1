"""``parbench.method`` and ``parbench.load_model``: what is in the configuration, and one sentence for what cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import parbench
from helpers import EVERY
from parbench.api.models import known_of
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.models.assets import asset


@pytest.mark.parametrize("name", EVERY)
def test_a_method_is_what_hydra_makes_of_its_yaml(name):
    for model in ("llava-tiny", "llava-1.5-7b"):
        composed = build_reducer(compose_config([f"method={name}", f"model={model}", "method.budget=null"]).method)
        settings = {"relevance_sign": composed.relevance_sign} if hasattr(composed, "relevance_sign") else {}
        assert parbench.method(name, budget="own", **settings) == composed


def test_a_method_for_a_model_is_ready_for_it(adapter):
    par = parbench.method("par", budget=64, model="llava-tiny")
    assert par == parbench.method("par", budget=64, model=adapter.model)
    assert par.relevance_threshold is not None
    assert par.relevance_sign == 1
    assert parbench.method("par").relevance_sign == -1
    assert parbench.method("uniform", budget=0.25, model="llava-tiny").budget == 144
    assert parbench.method("uniform", budget=np.int64(64)) == parbench.method("uniform", budget=64)


BAD = [
    ({"name": "prr"}, "unknown method 'prr': did you mean par"),
    (
        {"name": "par", "relevance_treshold": 1},
        "unknown field of method par 'relevance_treshold': did you mean relevance_threshold",
    ),
    ({"name": "par", "budget": 577, "model": "llava-tiny"}, "budget=577 of method par is impossible"),
    ({"name": "par", "budget": "x"}, "budget=x is not possible"),
    ({"name": "par", "budget": 1.0}, "budget=1.0 may mean one token or all"),
    ({"name": "par", "space": 3}, "method.space=3 of par is of the wrong kind: it takes str"),
    ({"name": "par", "space": "x"}, "use one of clip, llm"),
    ({"name": "fastv", "budget": 5, "model": "llava-tiny"}, "the least is 49"),
    ({"name": "par", "model": "lava-tiny"}, "unknown model 'lava-tiny': did you mean llava-tiny"),
    ({"name": "par", "model": 3}, "the model is of class int"),
    (
        {"name": "par", "budget": 65, "model": "llava-tiny"},
        "run: parbench calibrate model=llava-tiny method=par target=65, or give",
    ),
]


@pytest.mark.parametrize(("words", "said"), BAD)
def test_what_cannot_be_is_said_in_a_sentence(words, said):
    with pytest.raises(ParbenchError, match=said) as error:
        parbench.method(**words)
    assert "\n" not in str(error.value)


@pytest.fixture
def copied(tmp_path):
    """llava-tiny in a folder of its own."""
    return shutil.copytree(asset("llava-tiny"), tmp_path / "mine")


@pytest.mark.model
def test_a_checkpoint_in_a_folder(copied):
    model, processor = parbench.load_model(str(copied), dtype="bfloat16", device="cpu")
    assert (model.dtype, model.training, processor.tokenizer.padding_side) == (torch.bfloat16, False, "left")
    # The very weights that the shipped thresholds were found for, but nothing says which CLIP is theirs.
    with pytest.raises(ParbenchError, match="no CLIP text tower is known for mine: give clip="):
        parbench.method("par", budget=64, model=model)
    clip = str(copied / "clip")
    with pytest.raises(ParbenchError, match=r"other values of relevance_sign: run: parbench calibrate model=llava-1\.5-7b"):
        parbench.method("par", budget=64, model=model, clip=clip)
    assert parbench.method("par", budget=64, model=model, clip=clip, relevance_sign=1).relevance_threshold is not None
    (copied / "config.json").write_text((copied / "config.json").read_text() + "\n")
    other, _ = parbench.load_model(str(copied))
    with pytest.raises(ParbenchError, match=f"none are calibrated: .* model.path={copied} model.clip={clip} .*target=64, or give"):
        parbench.method("par", budget=64, model=other, clip=clip, relevance_sign=1)


@pytest.mark.model
def test_a_model_is_known_by_where_it_was_loaded_from(copied):
    from transformers import LlavaForConditionalGeneration

    shipped = LlavaForConditionalGeneration.from_pretrained(asset("llava-tiny"))
    assert known_of(shipped).name == "llava-tiny"
    assert parbench.method("par", budget=64, model=shipped).relevance_threshold is not None
    mine = known_of(LlavaForConditionalGeneration.from_pretrained(copied))
    assert (mine.name, mine.folder, mine.clip) == ("mine", Path(copied), None)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("lava-tiny", {}, "unknown model 'lava-tiny': did you mean llava-tiny"),
        ("llava-tiny", {"dtyp": "float32"}, "unknown setting of load_model 'dtyp': did you mean dtype"),
        ("llava-tiny", {"dtype": "float3"}, "float3"),
        ("/", {}, "contains no config.json"),
        ("no/such", {}, "name_or_path"),
    ],
)
@pytest.mark.model
def test_a_model_that_cannot_be_loaded(name, given, said):
    with pytest.raises(ParbenchError, match=said):
        parbench.load_model(name, **given)
