"""One matrix for all methods: whatever is in conf/method/ has to pass, with nothing to add here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch

from helpers import EVERY, ROWS, UNBUDGETED, reducer
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.base import OF_BUDGET
from parbench.testing import check_method
from parbench.testing.conformance import (
    BUDGET_CHECKS,
    CHECKS,
    delivers_its_budget,
    keeps_everything,
    looks_at_one_image,
    refuses_impossible_budgets,
    repeats_itself,
    says_what_it_is,
    says_whether_it_reads_the_question,
)
from parbench.testing.questions import few_questions
from parbench.testing.subject import NotApplicable, Subject, Trial

# A method of each site, for the fast tier.
SMOKE = ("downsample", "tome", "par", "fastv", "yopo")


def cell(name, budget):
    smoke = name in SMOKE and (budget == 64 or name in UNBUDGETED)
    return pytest.param(name, budget, marks=pytest.mark.smoke if smoke else ())


# (method, budget): its own rule where it has one, and the smallest budget of the literature.
CELLS = [cell(name, budget) for name in ROWS for budget in (None, 64) if not (name in UNBUDGETED and budget)]
EACH = [pytest.param(name, marks=pytest.mark.smoke if name in SMOKE else ()) for name in ROWS]


@pytest.fixture(scope="module")
def trial(adapter):
    return Trial(adapter, few_questions(adapter))


@pytest.fixture(scope="module")
def subject(trial):
    """A method on trial, with the answers it has given so far."""
    return cache(lambda name: Subject(reducer(name), trial))


def hold(check, *about):
    try:
        check(*about)
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", EACH)
def test_it_conforms(name, check, subject):
    hold(check, subject(name))


@pytest.mark.parametrize("check", BUDGET_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "budget"), CELLS)
def test_it_conforms_at_a_budget(name, budget, check, subject):
    hold(check, subject(name), budget)


@pytest.mark.parametrize("name", EVERY)
def test_the_yaml_names_every_field_and_nothing_else(name):
    config = compose_config([f"method={name}"]).method
    fields = {field.name for field in dataclasses.fields(reducer(name)) if field.init} - set(OF_BUDGET)
    assert fields == set(config) - {"_target_"}
    assert config.name == name


@dataclass
class FewBudgets(TokenReducer):
    """Has three budgets, as in the example of the docs."""

    title = "Few budgets"
    paper = "an example"

    def check(self, geometry):
        super().check(geometry)
        if self.asked(geometry) not in (None, 64, 128, 192):
            raise ParbenchError(f"budget={self.budget} of method {self.name} is not possible: use 64, 128 or 192")

    def reduce(self, features, probes):
        raise AssertionError("is not asked")


def test_a_method_that_refuses_all_tokens_need_not_keep_everything(trial):
    with pytest.raises(NotApplicable, match="cannot keep everything"):
        keeps_everything(Subject(FewBudgets(name="few", budget=64), trial))


# --- a method that does not conform is caught


@dataclass
class Norms(TokenReducer):
    """Keeps the patches of greatest norm."""

    title = "Norms"
    paper = "an example"

    def scores(self, features, probes):
        return features.double().norm(dim=-1)

    def reduce(self, features, probes):
        kept = top_k(self.scores(features, probes), self.count(probes.geometry))
        return Reduction.select(features, to_mask(kept, features.shape[1]))


class Nameless(Norms):
    title = ""


class Drawn(Norms):
    """Draws at random from the process."""

    def scores(self, features, probes):
        return torch.rand(features.shape[:2], dtype=torch.float64)


class OfTheBatch(Norms):
    """Looks at other images of the batch."""

    def scores(self, features, probes):
        return (features - features.mean((0, 1))).double().norm(dim=-1)


class NamelessOfTheBatch(OfTheBatch):
    title = ""


class Curious(Norms):
    """Reads the question and does not say so."""

    def scores(self, features, probes):
        shifts = [sum(map(ord, prompt)) for prompt in probes.prompts]
        norms = super().scores(features, probes)
        return torch.stack([row.roll(shift) for row, shift in zip(norms, shifts, strict=True)])


class SaysCurious(Norms):
    """Says that it reads the question and does not."""

    prompt_aware = True


class Stingy(Norms):
    """Keeps one token less than asked."""

    def count(self, geometry):
        return super().count(geometry) - 1


class Careless(Norms):
    """Checks no budget."""

    def check(self, geometry):
        pass


class Doubled(Norms):
    """Changes the features it keeps."""

    def reduce(self, features, probes):
        return super().reduce(features * 2, probes)


@pytest.mark.parametrize(
    ("kind", "check", "said"),
    [
        (Nameless, says_what_it_is, "its class has no title"),
        (Drawn, repeats_itself, "take randomness from probes.noise"),
        (OfTheBatch, looks_at_one_image, "other images in the batch change the kept tokens"),
        (Curious, says_whether_it_reads_the_question, "set prompt_aware = True"),
        (SaysCurious, says_whether_it_reads_the_question, "keeps the same tokens for all questions"),
        (Stingy, partial(delivers_its_budget, budget=64), "63 visual tokens instead of its budget of 64"),
        (Careless, refuses_impossible_budgets, "budget=0 is not refused"),
        (Doubled, keeps_everything, "has another answer with all tokens kept"),
    ],
)
def test_a_method_that_does_not_conform_is_caught(kind, check, said, trial):
    # The engine itself refuses a method that delivers too few tokens.
    with pytest.raises((AssertionError, ParbenchError), match=said):
        check(Subject(kind(name="own", budget=64), trial))


def test_all_that_is_wrong_with_a_method_is_told_together(adapter, trial):
    with pytest.raises(AssertionError, match=r"(?s)^own does not conform:\nsays_what_it_is: .*\nlooks_at_one_image: "):
        check_method(NamelessOfTheBatch(name="own", budget=64), adapter, trial.samples)


def test_one_that_conforms_is_told_what_it_passed(adapter):
    passed = check_method(Norms(name="own", budget=64), adapter)
    assert {check.__name__ for check in CHECKS} <= set(passed)
    assert {f"{check.__name__} at 64" for check in BUDGET_CHECKS} <= set(passed)
