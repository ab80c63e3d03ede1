"""SeTok, Skip-Vision and FocusLLaVA's first sampler as learned methods: tokens, untrained shadows, and which weights they take."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from parbench.errors import ParbenchError
from parbench.models.fingerprints import NO_WEIGHTS
from parbench.models.vision import READ_BLOCK
from parbench.reducers import focusllava_vision, learned_files
from parbench.reducers.focusllava_vision import FocusLlavaVision
from parbench.reducers.learned_files import save
from parbench.reducers.modules.clusters import ClusterEncoder
from parbench.reducers.modules.gate import ScaleGate
from parbench.reducers.modules.summary import Summary
from parbench.reducers.setok import SeTok
from parbench.reducers.skip_vision import SkipVision
from parbench.reducers.skip_vision_ada import SkipVisionAda
from parbench.reducers.token_probes import Probes

pytestmark = pytest.mark.model
WIDTH = 192
KINDS = {SeTok: ClusterEncoder, SkipVisionAda: Summary, FocusLlavaVision: ScaleGate}
# At a budget of 48, as many tokens as that.
BUDGET = 48
each = pytest.mark.parametrize("kind", KINDS)


def module_of(kind, seed=0):
    """A module that differs from its start everywhere, with values that float16 has."""
    torch.manual_seed(seed)
    made = KINDS[kind](WIDTH)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_((parameter + 0.05 * torch.randn_like(parameter)).half())
    return made


def named(kind, **fields):
    return kind(name=KINDS[kind].kind, budget=BUDGET, **fields)


def write(path, adapter, kind, seed=0, **about):
    fields = {name: getattr(named(kind), name) for name in kind.depends_on}
    known = {"base": adapter.fingerprint, "fields": fields, "budgets": [64, 16, 192], "model": "llava-tiny"}
    save(module_of(kind, seed), path, {**known, **about})
    return path


def ready(method, adapter):
    return method.for_model("llava-tiny", lambda: adapter.fingerprint, adapter.geometry)


@pytest.fixture
def encoded(adapter, scenes):
    images = [scenes[number]["image"].convert("RGB") for number in (0, 30)]
    with torch.inference_mode():
        found = adapter.encode(adapter.pixels(images), (READ_BLOCK,))
    copies = {
        name: {block: value.clone() for block, value in getattr(found, name).items()} for name in ("keys", "values", "queries")
    }
    # Gradients do not flow through tensors of inference mode.
    return dataclasses.replace(found, features=found.features.clone(), cls=found.cls.clone(), **copies)


@pytest.fixture
def probes(adapter, encoded):
    return Probes(adapter, encoded, ["?", "?"], [1, 2])


def features_of(kind, adapter, encoded):
    with torch.no_grad():
        return encoded.features if named(kind).place == "before_projector" else adapter.project(encoded.features)


@each
def test_weights_are_identified_by_content_and_refused_where_there_are_none(kind, adapter, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(learned_files, "SHIPPED", folder / "shipped")
    name = KINDS[kind].kind
    with pytest.raises(ParbenchError, match=rf"{name} needs weights that were trained for llava-tiny.*train_reducer.py {name}"):
        ready(named(kind), adapter)
    # A model with random weights has a random trained part.
    assert named(kind).for_model("llava-tiny", lambda: NO_WEIGHTS, adapter.geometry).weights is None
    one, same, other = (write(folder / f"{at}.safetensors", adapter, kind, seed) for at, seed in ((0, 0), (1, 0), (2, 1)))
    settings = [ready(named(kind, weights=str(path)), adapter).settings() for path in (one, same, other)]
    assert settings[0] == settings[1]
    assert settings[0]["weights"] != settings[2]["weights"]
    elsewhere = write(folder / "elsewhere.safetensors", adapter, kind, base="another")
    with pytest.raises(ParbenchError, match="were trained for other weights"):
        ready(named(kind, weights=str(elsewhere)), adapter)


def test_setok_weights_are_for_the_fields_they_were_trained_with(adapter, folder):
    path = write(folder / "own.safetensors", adapter, SeTok)
    with pytest.raises(ParbenchError, match=r"trained with method.sines=1.0, not 0.5"):
        ready(named(SeTok, weights=str(path), sines=0.5), adapter)
    with pytest.raises(ParbenchError, match=r"train it with scripts/train_reducer.py setok neighbours=64 --model llava-tiny$"):
        ready(named(SeTok, weights=str(path), neighbours=64), adapter)


@pytest.mark.parametrize(("width", "heads"), [(192, 6), (1024, 32), (1152, 36), (60, 1), (100, 2)])
def test_the_encoders_of_setok_have_heads_for_any_width(width, heads):
    made = ClusterEncoder(width)
    members = torch.eye(2, dtype=torch.bool).repeat_interleave(2, dim=1)[None]
    assert made.sizes["heads"] == heads
    assert made(torch.randn(1, 4, width), members).shape == (1, 2, width)


@each
def test_weights_can_be_read_by_others(kind, adapter, folder):
    path, plain = write(folder / "own.safetensors", adapter, kind), folder / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@each
def test_an_image_does_not_depend_on_its_batch(kind, adapter, folder, encoded, probes):
    method = ready(named(kind, weights=str(write(folder / "own.safetensors", adapter, kind))), adapter)
    features = features_of(kind, adapter, encoded)
    whole = method.reduce(features, probes)
    alone = method.reduce(features[1:], Probes(adapter, encoded.take(torch.tensor([1])), ["?"], [2]))
    assert whole.counts.tolist() == [BUDGET, BUDGET]
    assert torch.allclose(whole.tokens[1:], alone.tokens, atol=1e-5)
    assert all(map(torch.allclose, whole.provenance.of(1), alone.provenance.of(0)))


@each
def test_training_runs_the_code_of_evaluation(kind, adapter, folder, encoded, probes, monkeypatch):
    monkeypatch.setattr(focusllava_vision, "gumbel", lambda shape, _: torch.zeros(shape))
    method = ready(named(kind, weights=str(write(folder / "own.safetensors", adapter, kind))), adapter)
    features, module = features_of(kind, adapter, encoded), module_of(kind)
    tokens, _ = method.learn(module, features, probes, torch.Generator())
    assert torch.allclose(tokens, method.reduce(features, probes).tokens, atol=1e-3)
    tokens.square().sum().backward()
    # A bias that shifts all scores of a summary alike changes no softmax.
    free = {"score.bias"} if kind is SkipVisionAda else set()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert all(name in free or (found is not None and found.any()) for name, found in gradients.items())


def test_untrained_setok_sends_means_of_clusters_that_cover_the_image(adapter, folder, encoded, probes):
    path = str(write(folder / "own.safetensors", adapter, SeTok))
    means = ready(named(SeTok, weights=path, untrained=True), adapter).reduce(encoded.features, probes)
    trained = ready(named(SeTok, weights=path), adapter).reduce(encoded.features, probes)
    for image in range(2):
        token, patch, weight = means.provenance.of(image)
        assert sorted(patch.tolist()) == list(range(576))
        wanted = torch.zeros(BUDGET, WIDTH, dtype=torch.float64)
        wanted.index_add_(0, token, encoded.features[image, patch].double() * weight[:, None])
        assert torch.allclose(wanted, means.tokens[image].double(), atol=1e-4)
        firsts = [int(patch[token == one].min()) for one in range(BUDGET)]
        assert firsts == sorted(firsts)
    assert not torch.allclose(trained.tokens, means.tokens, atol=1e-2)


def test_places_make_clusters_more_compact(adapter, encoded, probes):
    def spread(sines):
        members = SeTok(name="setok", budget=BUDGET, sines=sines).clusters(encoded.features, probes).double()
        places = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij"), -1).view(576, 2).double()
        centres = members @ places / members.sum(2, keepdim=True)
        return float((members.transpose(1, 2) @ centres - places).square().sum(2).mean())

    assert spread(50.0) < 0.8 * spread(0.0)


def test_untrained_skip_vision_is_skip_vision(adapter, folder, encoded, probes):
    path = str(write(folder / "own.safetensors", adapter, SkipVisionAda))
    features = features_of(SkipVisionAda, adapter, encoded)
    plain = SkipVision(name="skip-vision", budget=BUDGET).reduce(features, probes)
    untrained = ready(named(SkipVisionAda, weights=path, untrained=True), adapter).reduce(features, probes)
    assert torch.equal(plain.tokens, untrained.tokens)
    trained = ready(named(SkipVisionAda, weights=path), adapter).reduce(features, probes)
    changed = (trained.tokens != plain.tokens).any(2)
    retained, skipped = SkipVision(name="skip-vision", budget=BUDGET).split(adapter.geometry)
    # Only the summaries differ.
    assert changed.nonzero()[:, 1].unique().tolist() == [retained, retained + skipped + 1]


@each
def test_at_the_full_budget_nothing_changes(kind, adapter, encoded, probes):
    features = features_of(kind, adapter, encoded)
    found = dataclasses.replace(named(kind), budget=576).reduce(features, probes)
    assert torch.equal(found.tokens, features)


def test_impossible_fields_are_refused():
    for fields, said in (
        ({"neighbours": 0}, "neighbours=0"),
        ({"sines": -1.0}, "sines=-1.0"),
        ({"place": "after_projector"}, "place"),
    ):
        with pytest.raises(ParbenchError, match=said):
            named(SeTok, **fields)


def test_a_block_attends_only_where_it_may():
    encoder = module_of(SeTok).double()
    members = torch.zeros(1, 3, 6, dtype=torch.bool)
    members[0, 0, :2] = members[0, 1, 2:] = True
    patches = torch.randn(1, 6, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = patches.clone()
    other[:, 3] += 1
    inner = encoder.inner
    together = members.double().transpose(1, 2) @ members.double() > 0
    changed = (inner(patches, together) != inner(other, together)).any(2)[0].tolist()
    assert changed == [False, False, True, True, True, True]
    # Padding changes no token.
    assert torch.allclose(encoder(patches, members)[:, :2], encoder(patches, members[:, :2]), atol=1e-12)


def test_regions_are_sent_whole_or_as_maxima_of_cells(adapter, folder, encoded, probes):
    path = str(write(folder / "own.safetensors", adapter, FocusLlavaVision))
    found = ready(named(FocusLlavaVision, weights=path), adapter).reduce(encoded.features, probes)
    for image in range(2):
        token, patch, weight = found.provenance.of(image)
        assert sorted(patch.tolist()) == list(range(576))
        sizes = torch.bincount(token)
        assert set(sizes.tolist()) <= {1, 4, 16}
        assert torch.allclose(weight, 1 / sizes[token].double())
        mine = [patch[token == one] for one in range(BUDGET)]
        assert [int(one[0]) for one in mine] == sorted(int(one[0]) for one in mine)
        for number, one in enumerate(mine):
            assert torch.equal(found.tokens[image, number], encoded.features[image, one].amax(0))
            # A cell is square, and lies in one region.
            assert len({(int(at) // 24 // 4, int(at) % 24 // 4) for at in one}) == 1


@pytest.mark.parametrize(("budget", "tokens"), [(36, 36), (64, 63), (100, 99), (191, 189), (575, 564)])
def test_a_budget_is_met_as_far_as_scales_allow(adapter, folder, encoded, probes, budget, tokens):
    path = str(write(folder / "own.safetensors", adapter, FocusLlavaVision))
    method = ready(dataclasses.replace(named(FocusLlavaVision, weights=path), budget=budget), adapter)
    method.check(adapter.geometry)
    assert method.reduce(encoded.features, probes).counts.tolist() == [tokens, tokens]


def test_budgets_and_grids_that_regions_do_not_fit_are_refused(geometry):
    method = dataclasses.replace(named(FocusLlavaVision), budget=35)
    with pytest.raises(ParbenchError, match="budget=35 of method focusllava-vision is out of reach: use 36 or more"):
        method.check(geometry)
    with pytest.raises(ParbenchError, match="sides are multiples of 4, and that of this model has 22 x 24"):
        named(FocusLlavaVision).check(dataclasses.replace(geometry, rows=22))
