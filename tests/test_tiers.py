"""The tests' own tiers and what they share."""

from __future__ import annotations

import pytest

from parbench.harness.datasets import PreparedDataset
from parbench.models.adapter import ModelAdapter
from shared_state import state
from tiers import tiers_of


def test_every_test_is_in_one_tier(request):
    wrong = {item.nodeid: tiers_of(item) for item in request.session.items if len(tiers_of(item)) != 1}
    assert wrong == {}


@pytest.mark.model
def test_the_shipped_model_is_loaded_once_and_any_other_anew(adapter, settings):
    assert ModelAdapter.load(settings) is adapter
    assert ModelAdapter.load({**settings, "name": "other"}) is not adapter


def test_a_unit_test_that_loads_a_model_fails(settings):
    with pytest.raises(AssertionError, match="mark it model"):
        ModelAdapter.load(settings)


def test_what_a_test_leaves_in_the_model_is_seen(adapter):
    before = state(adapter)
    handle = adapter.model.register_forward_hook(lambda *_: None)
    assert state(adapter) != before
    handle.remove()
    adapter.model.generation_config.eos_token_id, ends = [], adapter.model.generation_config.eos_token_id
    assert state(adapter) != before
    adapter.model.generation_config.eos_token_id = ends
    assert state(adapter) == before


def test_scenes_are_prepared_once_a_cache_folder(folder, monkeypatch):
    from omegaconf import OmegaConf

    from parbench.config import compose_config

    settings = OmegaConf.to_container(compose_config([]).dataset, resolve=True)
    one = PreparedDataset(settings)
    assert PreparedDataset(dict(settings)) is one
    assert PreparedDataset({**settings, "split": "val"}) is not one
    monkeypatch.setenv("PARBENCH_CACHE", str(folder))
    assert PreparedDataset(settings) is not one
