"""What methods need of a model: refused before anything is computed, with the field that takes its place."""

from __future__ import annotations

import pytest

from helpers import CLIPS, EVERY, METHODS, reducer
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.models.families import FAMILIES, Family, Generic
from parbench.models.geometry import Geometry
from parbench.models.offers import OFFERS
from parbench.models.written_sizes import model_geometry
from parbench.reducers.needs import check_model, refusal, substitute
from parbench.results.naming import row_name

# Models with the sizes of their families, without weights.
MODELS = ("llava-1.5-7b", "llava-next-7b", "llava-onevision-7b", "qwen2.5-vl-7b", "internvl3-8b", "smolvlm2-2.2b", "gemma3-4b")


def sizes(name: str) -> Geometry:
    return model_geometry(dict(compose_config([f"model={name}"]).model))


def of(family: type[Family]) -> Geometry:
    return Geometry(0, 0, 32, 24, 14, varies=family.varies, family=family.title, offers=family.offers)


def test_families_and_methods_name_what_is_described():
    assert set().union(*(family.offers for family in (*FAMILIES, Generic))) <= set(OFFERS)
    assert set().union(*(reducer(name).wants for name in EVERY)) <= set(OFFERS)


@pytest.mark.parametrize("name", METHODS)
def test_llava_has_what_every_method_needs(name):
    assert refusal(reducer(name), sizes("llava-1.5-7b")) is None


@pytest.mark.parametrize("name", CLIPS)
def test_methods_for_videos_are_refused_where_there_are_none(name):
    with pytest.raises(ParbenchError, match=f"method {name} needs the frames of a video, which LLaVA-1.5 does not have"):
        check_model(reducer(name), sizes("llava-1.5-7b"))
    assert all(refusal(reducer(name), sizes(model)) is None for model in ("llava-onevision-7b", "qwen2.5-vl-7b", "qwen3-vl-4b"))


@pytest.mark.parametrize("family", [*FAMILIES, Generic], ids=lambda family: family.title)
def test_with_its_substitute_a_method_is_refused_no_more(family):
    for name in EVERY:
        method, geometry = reducer(name), of(family)
        why, instead = refusal(method, geometry), substitute(method, geometry)
        assert (why is None) == (method.wants <= family.offers)
        if instead:
            assert all(f"method.{field}=" in str(why) for field in instead)
            assert refusal(reducer(name, **instead), geometry) is None


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        (
            "visionzip",
            "qwen2.5-vl-7b",
            "the attention of a CLS token.*, which Qwen2.5-VL.*method.attention=received",
        ),
        ("cls-topk", "smolvlm2-2.2b", "use method.attention=received"),
        ("par", "qwen2.5-vl-7b", "CLIP text tower.*use method.space=llm"),
        ("trim", "llava-next-7b", "use method.space=llm"),
        ("cdpruner", "internvl3-8b", "use method.space=llm"),
        ("tome", "llava-next-7b", "tokens can be merged, which LLaVA-NeXT does not have: use another method"),
        ("dymu", "qwen2.5-vl-7b", "tokens can be merged"),
        ("downsample", "gemma3-4b", "images of other sizes"),
        ("interaction", "internvl3-8b", "in front of the connector"),
        ("topv", "llava-next-7b", "one grid of visual tokens"),
        ("yopo", "internvl3-8b", "use method.window=null"),
        ("yopo", "gemma3-4b", "see only earlier ones"),
    ],
)
def test_what_is_missing_is_said_with_its_substitute(name, model, said):
    with pytest.raises(ParbenchError, match=said):
        check_model(reducer(name), sizes(model))


def test_attention_received_is_for_towers_without_cls():
    with pytest.raises(ParbenchError, match="a vision tower without CLS token"):
        check_model(reducer("visionzip", attention="received"), sizes("llava-1.5-7b"))


def test_heads_are_pruned_only_where_they_share_no_keys():
    pruned = {"pruned_heads": [[0, 1]]}
    check_model(reducer("yopo", **pruned), sizes("llava-1.5-7b"))
    with pytest.raises(ParbenchError, match=r"share no keys.*use method.pruned_heads=\[\]"):
        check_model(reducer("yopo", **pruned), sizes("qwen2.5-vl-7b"))


def test_options_of_a_method_need_what_they_use():
    check_model(reducer("folder", 64), sizes("qwen2.5-vl-7b"))
    with pytest.raises(ParbenchError, match=r"use method\.alpha=0"):
        check_model(reducer("folder", 64, alpha=0.5), sizes("qwen2.5-vl-7b"))
    with pytest.raises(ParbenchError, match=r"use method\.send_cls=false"):
        check_model(reducer("folder", 64, send_cls=True), sizes("llava-next-7b"))
    with pytest.raises(ParbenchError, match=r"use method\.within=part"):
        check_model(reducer("uniform", 64, within="image"), sizes("llava-next-7b"))


@pytest.mark.parametrize("budget", [0, -3, 12.5, True])
@pytest.mark.parametrize("name", ["divprune", "fastv", "pool"])
def test_impossible_budgets_are_refused_where_images_differ(name, budget):
    with pytest.raises(ParbenchError, match="budget="):
        check_model(reducer(name, budget), sizes("qwen2.5-vl-7b"))


@pytest.mark.parametrize("budget", [0.222, 64, 5000])
@pytest.mark.parametrize("name", ["divprune", "pyramiddrop", "sparsevlm", "pool"])
def test_budgets_are_checked_before_images_are_known(name, budget):
    check_model(reducer(name, budget), sizes("qwen2.5-vl-7b"))


def test_a_substitute_changes_the_name_of_the_row():
    assert row_name(reducer("visionzip", 64, attention="received").settings()) == "visionzip @64 (received)"
    assert row_name(reducer("trim", 64, space="llm").settings()) == "trim @64 (llm)"
    assert row_name(reducer("visionzip", 0.222, attention="received", within="image").settings()) == (
        "visionzip @0.222 (received, within=image)"
    )


@pytest.mark.parametrize("name", EVERY)
def test_fields_that_came_later_do_not_change_the_identity_of_runs(name):
    assert not {"within", "separators", "attention"} & set(reducer(name).settings())
