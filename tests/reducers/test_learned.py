"""Learned methods: which weights they take, and what their modules do."""

from __future__ import annotations

import dataclasses
import math
import shutil

import pytest
import torch

from parbench.errors import ParbenchError
from parbench.models.fingerprints import NO_WEIGHTS
from parbench.models.vision import WithValues
from parbench.ops.grouping import hard_groups
from parbench.reducers import learned_files, vistog
from parbench.reducers.learned_files import file_name, save
from parbench.reducers.modules.codec import Codec, EntropyModel, _laplace
from parbench.reducers.modules.grouping import Grouping
from parbench.reducers.tofc import Tofc
from parbench.reducers.tofc_codec import TofcCodec
from parbench.reducers.token_probes import Probes
from parbench.reducers.vistog import VisToG

pytestmark = pytest.mark.model
WIDTH = 192


def module_of(kind=Grouping, seed=0, **sizes):
    """A module that differs from its start everywhere."""
    torch.manual_seed(seed)
    made = kind(**{"width": WIDTH, **({"groups": 80} if kind is Grouping else {"experts": 3}), **sizes})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        if kind is Grouping:
            made.tokens += torch.randn_like(made.tokens)
    return made


def write(path, adapter, module=None, **about):
    found = module or module_of()
    fields = {"place": "before_projector"} | ({"neighbours": 5, "trade": 0.01} if isinstance(found, Codec) else {})
    known = {"base": adapter.fingerprint, "fields": fields, "budgets": [16, 8, 64], "seed": 3, "steps": 2, "model": "llava-tiny"}
    save(found, path, {**known, **about})
    return path


@pytest.fixture
def weights(folder, adapter):
    return write(folder / "own.safetensors", adapter)


@pytest.fixture
def encoded(adapter, scenes):
    images = [scenes[number]["image"].convert("RGB") for number in (0, 30)]
    with torch.inference_mode():
        return adapter.encode(adapter.pixels(images), tuple(map(WithValues, range(adapter.geometry.read))))


@pytest.fixture
def probes(adapter, encoded):
    return Probes(adapter, encoded, ["?", "?"], [1, 2])


def ready(method, adapter):
    return method.for_model("llava-tiny", lambda: adapter.fingerprint, adapter.geometry)


def grouping(path, adapter, **fields):
    return ready(VisToG(name="vistog", budget=64, weights=str(path), **fields), adapter)


# Which weights.


def test_weights_are_identified_by_their_content(weights, adapter, folder):
    copied = shutil.copy(weights, folder / "copy.safetensors")
    other = write(folder / "other.safetensors", adapter, module_of(seed=1))
    one, same, different = (grouping(path, adapter).settings() for path in (weights, copied, other))
    assert one == same
    assert one["weights"] != different["weights"]
    assert str(folder) not in str(one)


def test_weights_are_found_by_model_and_by_fingerprint(weights, adapter, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(learned_files, "SHIPPED", folder / "shipped")
    method = VisToG(name="vistog", budget=64)
    with pytest.raises(ParbenchError, match=r"vistog needs weights that were trained for llava-tiny.*train_reducer.py vistog"):
        ready(method, adapter)
    (folder / "shipped").mkdir()
    shutil.copy(weights, folder / "shipped" / file_name("llava-tiny", "vistog"))
    assert ready(method, adapter).weights.startswith(str(folder / "shipped"))
    # Under another name, the same model.
    assert method.for_model("mine", lambda: adapter.fingerprint, adapter.geometry).weights.startswith(str(folder / "shipped"))
    (folder / "learned").mkdir()
    shutil.copy(weights, folder / "learned" / file_name("llava-tiny", "vistog"))
    found = ready(method, adapter)
    assert found.weights.startswith("learned")
    assert found.training["seed"] == 3
    with pytest.raises(ParbenchError, match=r"trained for other weights than those of this model.*--model llava-tiny"):
        method.for_model("llava-tiny", lambda: "another", adapter.geometry)
    with pytest.raises(ParbenchError, match=r"for llava-tiny\+random-64, but there are none: .*--model llava-tiny --track adapted"):
        method.for_model("llava-tiny+random-64", lambda: "another", adapter.geometry)
    # Speed can be measured without weights.
    assert method.for_model("llava-tiny", lambda: NO_WEIGHTS, adapter.geometry) is method


def test_a_wrong_file_is_refused_in_a_sentence(weights, adapter, folder):
    cut, text = folder / "cut.safetensors", folder / "text.safetensors"
    cut.write_bytes(weights.read_bytes()[:5000])
    text.write_text("no weights")
    codec = write(folder / "codec.safetensors", adapter, module_of(Codec))
    elsewhere = write(folder / "elsewhere.safetensors", adapter, fields={"place": "after_projector"})
    for path, said in (
        (cut, "is damaged or no weights file"),
        (text, "is damaged or no weights file"),
        (folder / "none.safetensors", "cannot be read"),
        (codec, "are of method tofc-codec, not vistog"),
        (elsewhere, "method.place=after_projector"),
    ):
        with pytest.raises(ParbenchError, match=said) as caught:
            grouping(path, adapter)
        assert "\n" not in str(caught.value)


def test_weights_of_another_width_are_refused(adapter, folder, encoded, probes):
    narrow = write(folder / "narrow.safetensors", adapter, module_of(width=96))
    with pytest.raises(ParbenchError, match="for tokens of width 96, but those of this model have 192"):
        grouping(narrow, adapter).reduce(encoded.features, probes)


def test_tensors_that_do_not_fit_are_refused(adapter, folder, encoded, probes):
    made = module_of()
    made.sizes = {**made.sizes, "groups": 70}
    with pytest.raises(ParbenchError, match="do not fit method vistog"):
        grouping(write(folder / "odd.safetensors", adapter, made), adapter).reduce(encoded.features, probes)


def test_a_method_without_weights_never_runs_on_a_model_with_weights(encoded, probes):
    with pytest.raises(ParbenchError, match="has no weights"):
        VisToG(name="vistog", budget=64).reduce(encoded.features, probes)


# VisToG.


def test_semantic_tokens_pass_the_tower_as_if_they_were_in_it(adapter, scenes, encoded, probes):
    """Against the tower's own blocks with a mask, in which the image does not see them."""
    tower = adapter.model.model.vision_tower
    tokens = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 30)])
    with torch.inference_mode():
        image = tower.pre_layrnorm(tower.embeddings(pixels))
        hidden, count = torch.cat([image, tokens.expand(2, -1, -1)], dim=1), image.shape[1]
        mask = torch.zeros(2, 1, hidden.shape[1], hidden.shape[1])
        mask[:, :, :count, count:] = float("-inf")
        for layer in adapter.read_blocks:
            hidden = layer(hidden, attention_mask=mask)
        beside = probes.beside(tokens.double())
    assert torch.allclose(hidden[:, 1:count], encoded.features, atol=1e-4)
    assert torch.allclose(hidden[:, count:].double(), beside, atol=1e-4)


def test_untrained_it_sends_the_means_that_its_provenance_tells(weights, adapter, encoded, probes):
    reduction = grouping(weights, adapter, untrained=True).reduce(encoded.features, probes)
    assert reduction.counts.tolist() == [64, 64]
    for image in range(2):
        token, patch, weight = reduction.provenance.of(image)
        means = torch.zeros(64, WIDTH, dtype=torch.float64)
        means.index_add_(0, token, encoded.features[image, patch].double() * weight[:, None])
        assert torch.allclose(means, reduction.tokens[image].double(), atol=1e-4)
        assert set(patch.tolist()) == set(range(576))
    trained = grouping(weights, adapter).reduce(encoded.features, probes)
    assert not torch.allclose(trained.tokens, reduction.tokens, atol=1e-2)


def test_an_empty_group_gets_the_patch_that_is_most_similar_to_it():
    scores = torch.tensor([[[5.0, 1.0, 4.0], [0.0, 0.5, 3.0], [1.0, 2.0, 0.0]]])
    members, empty = hard_groups(scores)
    assert members.tolist() == [[[True, False, True], [False, False, True], [False, True, False]]]
    assert empty.tolist() == [1]


def test_training_runs_the_code_of_evaluation(weights, adapter, encoded, probes, monkeypatch):
    """Without noise the tokens in training are those of evaluation, and every part of the module has a gradient."""
    monkeypatch.setattr(vistog, "gumbel", lambda shape, _: torch.zeros(shape))
    method, module = grouping(weights, adapter), module_of()
    module.load_state_dict({name: value.half().float() for name, value in module.state_dict().items()})
    clone = {
        name: {block: value.clone() for block, value in getattr(encoded, name).items()} for name in ("keys", "values", "queries")
    }
    plain = dataclasses.replace(encoded, features=encoded.features.clone(), **clone)
    tokens, _ = method.learn(module, plain.features, Probes(adapter, plain, ["?", "?"], [1, 2]), torch.Generator())
    assert torch.allclose(tokens, method.reduce(encoded.features, probes).tokens, atol=1e-3)
    tokens.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


def test_a_budget_above_the_semantic_tokens_is_refused(weights, adapter):
    with pytest.raises(ParbenchError, match=r"budget=81 of method vistog is out of reach: its weights have 80 semantic tokens"):
        ready(VisToG(name="vistog", budget=81, weights=str(weights)), adapter)
    # All tokens are sent as they are.
    assert ready(VisToG(name="vistog", budget=576, weights=str(weights)), adapter)


# TOFC.


def test_the_probabilities_of_a_laplace_distribution_add_up():
    whole = torch.arange(-400, 401).double()
    for scale in (0.05, 0.7, 2.0, 9.0):
        assert float(_laplace(whole, torch.tensor(scale).double()).sum()) == pytest.approx(1, abs=1e-9)


def test_a_codec_sends_merged_tokens_within_half_a_step(adapter, folder, encoded, probes):
    path = write(folder / "codec.safetensors", adapter, module_of(Codec))
    method = ready(TofcCodec(name="tofc-codec", budget=32, weights=str(path)), adapter)
    coded, merged = method.reduce(encoded.features, probes), Tofc(name="tofc", budget=32).reduce(encoded.features, probes)
    assert float((coded.tokens - merged.tokens).abs().max()) <= 0.5 + 1e-4
    assert not torch.equal(coded.tokens, merged.tokens)
    for image in range(2):
        assert all(map(torch.equal, coded.provenance.of(image), merged.provenance.of(image)))
    bits = coded.measures["bits"]
    assert (bits > 32 * math.log2(3)).all()
    assert (bits < 32 * WIDTH * 16).all()
    # An image alone.
    alone = Probes(adapter, encoded.take(torch.tensor([1])), ["?"], [2])
    assert torch.equal(method.reduce(encoded.features[1:], alone).tokens, coded.tokens[1:])
    assert float(method.reduce(encoded.features[1:], alone).measures["bits"][0]) == pytest.approx(float(bits[1]), abs=1e-6)


def test_a_codec_refuses_budgets_that_it_was_not_trained_at(adapter, folder):
    path = write(folder / "codec.safetensors", adapter, module_of(Codec))
    for budget in (7, 65):
        with pytest.raises(ParbenchError, match=rf"budget={budget} of method tofc-codec is out of reach.*at 8 to 64 tokens"):
            ready(TofcCodec(name="tofc-codec", budget=budget, weights=str(path)), adapter)
    for budget in (8, 64, 576):
        assert ready(TofcCodec(name="tofc-codec", budget=budget, weights=str(path)), adapter).budget == budget


def test_soft_and_hard_coding_of_an_entropy_model_agree():
    torch.manual_seed(0)
    model, tokens = EntropyModel(32), 3 * torch.randn(7, 32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    soft, hard = model(tokens, soft=True), model(tokens)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(soft, hard, strict=True))
    soft[1].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_untrained_nothing_of_a_training_is_left_in_a_codec():
    one, other = (module_of(Codec, seed=seed).reset().state_dict() for seed in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_untrained_all_tokens_have_one_distribution():
    codec = module_of(Codec).reset().double()
    tokens = torch.randn(9, WIDTH, dtype=torch.float64).round()
    coded = codec.encode(tokens)
    assert torch.equal(coded.tokens, tokens)
