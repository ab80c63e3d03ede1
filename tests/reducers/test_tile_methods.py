"""Methods that divide their budget among the parts of an image, on tiles with known attention."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import zoo
from helpers import reducer
from parbench.clips import Clip
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.geometry import Geometry
from parbench.models.vision import Encoded
from parbench.parity.tiles import SIDE, tiles
from parbench.reducers.token_probes import READ_BLOCK, Probes

CELLS = SIDE**2


def probes_of(early: torch.Tensor, raw: torch.Tensor | None = None) -> Probes:
    """A thumbnail and 2 x 2 crops without padding, of which the thumbnail's attention is given."""
    parts = tiles(2, 2, torch.ones(5, CELLS, dtype=torch.bool))
    draw = torch.Generator().manual_seed(0)
    random = torch.rand(1, 4, 5 * CELLS, generator=draw, dtype=torch.float64)
    first, last = random.clone(), random.mean(1)
    first[:, :, :CELLS] = early
    last[:, :CELLS] = early if raw is None else raw
    features = torch.arange(5 * CELLS)[None, :, None].double()
    encoded = Encoded(
        features,
        None,
        (0, 0),
        torch.tensor([[5 * CELLS]]),
        projected=True,
        saliency={0: first, READ_BLOCK: random},
        raw_saliency={-1: last},
        parts=parts,
    )
    adapter = SimpleNamespace(geometry=Geometry(0, 0, layers=0, blocks=0, patch=14, tokens=5 * CELLS, varies=True))
    return Probes(adapter, encoded, [""], [0])


def counts(method: str, probes: Probes, **fields) -> list[int]:
    return reducer(method, fields.pop("budget", 576), **fields).counts(probes)[0].tolist()


def right_half() -> torch.Tensor:
    """Attention of the right half of the thumbnail, in which its lower rows have more."""
    plane = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    plane[:, SIDE // 2 :] = torch.linspace(0.5, 1, SIDE, dtype=torch.float64)[:, None]
    return plane.flatten()


def test_crops_get_what_the_area_that_they_show_attracts():
    probes = probes_of(right_half())
    # All 288 marked tokens are in the right half: the strips see as many each, the crops on the left none.
    assert counts("hired", probes) == [288, 72, 72, 72, 72]
    assert counts("hired", probes, areas="shown") == [288, 0, 144, 0, 144]
    left, right, low_left, low_right = counts("globalcom2", probes, temperature=30.0)[1:]
    assert low_right > right > left == low_left


@pytest.mark.parametrize("method", ["hired", "globalcom2"])
@pytest.mark.parametrize("budget", [1, 2, 97, 576, 1500, 2304, 2879, 2880])
def test_a_budget_is_met_whatever_parts_have(method, budget):
    probes = probes_of(right_half())
    for fields in ({}, {"areas": "shown"}) if method == "hired" else ({},):
        found = counts(method, probes, budget=budget, **fields)
        assert sum(found) == budget
        assert max(found) <= CELLS
    lost = counts(method, probes, budget=budget, remainder="lost")
    assert sum(lost) <= budget
    assert not reducer(method, budget, remainder="lost").exact_budget


@pytest.mark.parametrize("method", ["hired", "globalcom2"])
def test_scores_count_within_a_part_alone(method):
    probes = probes_of(right_half())
    whole = reducer(method, 400)
    kept = whole.reduce(probes.encoded.features, probes).provenance.patch
    for values in (probes.encoded.saliency[READ_BLOCK], probes.encoded.raw_saliency[-1]):
        # The same order in the last crop, at another level.
        values[..., 4 * CELLS :] *= 3
    again = whole.reduce(probes.encoded.features, probes).provenance.patch
    assert torch.equal(kept, again)


@pytest.mark.parametrize("method", ["hired", "globalcom2"])
def test_frames_are_refused_in_one_sentence(method):
    model, processor, _ = zoo.FAMILIES["llava_next_video"]()
    adapter = ModelAdapter(model, processor, name="clips")
    clip = Clip((zoo.image(56, 56, 1), zoo.image(56, 56, 2)), (0.0, 1.0))
    sample = Sample("0", lambda _: "USER: <video>\nWhy? ASSISTANT:", "Why?", lambda: [clip], "a", 2)
    with pytest.raises(ParbenchError, match="2 parts of the kind frame"):
        Engine(adapter, reducer(method, 3)).answer([sample])


@pytest.mark.parametrize("fields", [{"areas": "rings"}, {"overview": 1.5}, {"remainder": "kept"}, {"within": "part"}])
def test_impossible_fields_are_refused(fields):
    with pytest.raises(ParbenchError, match=next(iter(fields))):
        reducer("hired", 64, **fields)
