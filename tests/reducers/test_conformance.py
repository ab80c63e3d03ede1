"""One matrix for all methods: whatever is in conf/method/ has to pass, with nothing to add here."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from helpers import METHODS, ROWS, UNBUDGETED, reducer, sample, within_reach
from parbench.config import compose_config
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError

# A method of each site, for the fast tier.
SMOKE = ("downsample", "tome", "par", "fastv", "yopo")


def cell(name, budget):
    smoke = name in SMOKE and (budget == 64 or name in UNBUDGETED)
    return pytest.param(name, budget, marks=pytest.mark.smoke if smoke else ())


# (method, budget): its own rule where it has one, and the smallest budget of the literature.
CELLS = [cell(name, budget) for name in ROWS for budget in (None, 64) if not (name in UNBUDGETED and budget)]
EACH = [pytest.param(name, marks=pytest.mark.smoke if name in SMOKE else ()) for name in ROWS]


def built(name, budget, adapter):
    method = reducer(name, budget)
    if budget is None and not method.adaptive and method.budget is None and method.site not in ("layers", "mask"):
        pytest.skip("has no rule of its own")
    if budget is not None and within_reach(name, adapter.geometry).budget > budget:
        pytest.skip("cannot deliver so few tokens on this model")
    return method


@pytest.fixture(scope="module")
def batch(adapter, scenes):
    """Eight questions about three images."""
    rows = [scenes[number] for number in (0, 3, 8, 12, 13, 15, 22, 25)]
    return [sample(adapter, row, number) for number, row in enumerate(rows)]


@pytest.fixture(scope="module")
def answers(adapter, batch):
    """Answers by (method, budget), for all eight in one batch."""
    found = {}

    def get(name, budget):
        if (name, budget) not in found:
            engine = Engine(adapter, built(name, budget, adapter))
            found[name, budget] = engine.answer(batch)
        return found[name, budget]

    return get


@pytest.mark.parametrize("name", METHODS)
def test_the_yaml_names_every_field_and_nothing_else(name):
    config = compose_config([f"method={name}"]).method
    fields = {field.name for field in dataclasses.fields(reducer(name))}
    assert fields == set(config) - {"_target_"}


@pytest.mark.parametrize("name", METHODS)
def test_the_class_says_what_it_is(name):
    method = reducer(name)
    assert method.name == name
    assert method.title
    assert type(method).__doc__
    assert method.paper or method.control


@pytest.mark.parametrize("budget", [0, -3, 577, 12.5, True])
def test_impossible_budgets_are_refused(budget, geometry):
    for name in ROWS:
        if name != "none":
            with pytest.raises(ParbenchError, match="budget="):
                dataclasses.replace(reducer(name), budget=budget).check(geometry)


def test_a_ratio_means_that_share_of_the_tokens(geometry):
    asked = {name: reducer(name, 0.111).asked(geometry) for name in ROWS if name != "none"}
    assert asked == dict.fromkeys(asked, 64)


@pytest.mark.parametrize(("name", "budget"), CELLS)
def test_what_is_asked_is_delivered(name, budget, adapter, answers):
    method = built(name, budget, adapter)
    asked = method.asked(adapter.geometry)
    for answer in answers(name, budget):
        assert answer.error is None
        assert 1 <= answer.ledger.tokens_kept <= 576
        if asked is not None and (method.exact_budget or method.site == "layers"):
            # Inside the LLM a budget is an average over layers, which whole tokens meet to within half a token a layer.
            slack = 0.5 if method.site == "layers" else 0
            assert abs(answer.ledger.tokens_kept - asked) <= slack


@pytest.mark.parametrize(("name", "budget"), CELLS)
def test_provenance_is_of_this_image(name, budget, answers, adapter):
    for answer in answers(name, budget):
        (kept,) = answer.kept
        assert kept.grid == (24, 24)
        assert len(kept.patches) == len(kept.weights) == len(kept.token)
        assert all(0 <= patch < 576 for patch in kept.patches)
        method = built(name, budget, adapter)
        # CLS, where a method sends it on, comes first and from no patch.
        nowhere = {0} if getattr(method, "send_cls", False) else set()
        assert set(range(kept.tokens)) - set(kept.token) == nowhere
        assert kept.tokens == answer.ledger.visual[-1]


@pytest.mark.parametrize(("name", "budget"), CELLS)
def test_the_ledger_is_consistent(name, budget, answers, adapter, batch):
    for answer, question in zip(answers(name, budget), batch, strict=True):
        ledger = answer.ledger
        assert len(ledger.layers) == len(ledger.visual) == adapter.geometry.layers
        text = {full - visual for full, visual in zip(ledger.layers, ledger.visual, strict=True)}
        expected = len(adapter.tokenizer(question.prompt(1)).input_ids) - 1
        assert text == {expected}
        assert list(ledger.visual) == sorted(ledger.visual, reverse=True)
        assert 1 <= ledger.generated <= 8


@pytest.mark.parametrize(("name", "budget"), CELLS)
def test_a_sample_alone_keeps_what_it_keeps_in_a_batch(name, budget, adapter, batch, answers):
    method = built(name, budget, adapter)
    if method.site == "pixels":
        pytest.skip("keeps every token of the smaller image")
    engine = Engine(adapter, method)
    together = answers(name, budget)
    # The first and the last image.
    for number in (0, 7):
        (alone,) = engine.answer([batch[number]])
        assert alone.kept[0].patches == together[number].kept[0].patches
        assert alone.kept[0].token == together[number].kept[0].token
        assert alone.text == together[number].text


@pytest.fixture(scope="module")
def untouched(adapter, batch):
    """Answers without reduction."""
    return Engine(adapter, reducer("none"), share=False).answer(batch)


@pytest.mark.parametrize("name", EACH)
def test_keeping_everything_is_the_identity(name, adapter, batch, untouched):
    method = reducer(name, None if name in UNBUDGETED else 576)
    if method.site == "mask":
        pytest.skip("keeps everything anyway; its masks have a test of their own")
    if method.calibrates and not method.exact_budget:
        pytest.skip("its budget is a mean; keeping everything is not one of its results")
    engine = Engine(adapter, method, share=False)
    for ours, plain in zip(engine.answer(batch), untouched, strict=True):
        assert ours.ledger.layers == plain.ledger.layers
        assert ours.margin == plain.margin
        assert ours.text == plain.text


@pytest.mark.parametrize("name", EACH)
def test_the_same_again_is_the_same(name, adapter, batch):
    method = within_reach(name, adapter.geometry)
    first, second = (Engine(adapter, method).answer(batch[:3]) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.kept == other.kept
        assert (one.text, one.margin) == (other.text, other.margin)


@pytest.mark.parametrize(
    "name", [name for name in ROWS if reducer(name).site in ("tokens", "tower") and name != "none"]
)
def test_position_policies_keep_the_same_tokens_and_place_them_otherwise(name, adapter, batch):
    compact, keep = (
        Engine(adapter, reducer(name, 64, positions=positions)).answer(batch[:2]) for positions in ("compact", "keep")
    )
    for one, other in zip(compact, keep, strict=True):
        assert (one.error, other.error) == (None, None)
        assert one.kept == other.kept
        assert one.margin != other.margin


@pytest.mark.parametrize("name", EACH)
def test_a_method_that_looks_at_the_prompt_says_so(name, adapter, scenes, batch):
    """Two questions about one image: whoever keeps different tokens looks at the question."""
    method = within_reach(name, adapter.geometry)
    same = [one for one in batch if one.group == batch[0].group]
    kept = [answer.kept[0].patches for answer in Engine(adapter, method).answer(same)]
    assert (len(set(kept)) > 1) == method.prompt_aware


def test_features_of_other_images_change_nothing(adapter, scenes):
    """The official code of three methods fails this: quantiles, scales or choices over the whole batch."""
    from parbench.reducers.token_probes import Probes

    images = [scenes[number]["image"].convert("RGB") for number in (0, 15, 30, 45)]
    methods = [reducer(name, None if reducer(name).budget is None else 64) for name in ROWS]
    methods = [method for method in methods if method.site == "tokens"]
    encoded = adapter.encode(adapter.pixels(images), sorted({block for method in methods for block in method.blocks}))
    for method in methods:
        questions, seeds = ["What colour is the star?"] * 4, [11, 12, 13, 14]
        together = method.reduce(encoded.features, Probes(adapter, encoded, questions, seeds))
        for number in range(4):
            one = encoded.take(torch.tensor([number]))
            alone = method.reduce(one.features, Probes(adapter, one, questions[:1], seeds[number : number + 1]))
            count = int(alone.counts[0])
            assert int(together.counts[number]) == count, method.name
            assert torch.equal(together.provenance.of(number)[1], alone.provenance.of(0)[1]), method.name
