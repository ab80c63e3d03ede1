"""Conformance checks that every method has to pass, at any site.

Each check is a function of a subject, some also of a budget. It raises an AssertionError that describes the failure, or
:class:`~parbench.testing.subject.NotApplicable` if it does not apply to the method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch

from parbench.engine.samples import Answer, Sample
from parbench.engine.sites import site_of
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.geometry import Geometry
from parbench.reducers import LayerReducer, Reducer
from parbench.reducers.needs import refusal
from parbench.reducers.none import Unreduced
from parbench.reducers.token_probes import Probes, Shown
from parbench.testing.questions import few_clips, few_questions
from parbench.testing.subject import NotApplicable, Subject, Trial


def check_method(method: Reducer, adapter: ModelAdapter, samples: Sequence[Sample] | None = None) -> list[str]:
    """Run all checks on a method.

    Args:
        method: The method, built from its YAML.
        adapter: The model for the checks; llava-tiny takes a few seconds.
        samples: Questions about one image each, several of them about one image; None for four questions of scenes, or
            about videos if the method compares their frames.

    Returns:
        The names of the passed checks, without those that do not apply.

    Raises:
        AssertionError: Some checks fail. The message lists all of them.
    """
    passed, failed = [], []
    for outcome in outcomes(method, adapter, samples):
        if outcome.status == "failed":
            failed.append(f"{outcome.check}: {outcome.reason}")
        elif outcome.status == "passed":
            passed.append(outcome.check)
    if failed:
        raise AssertionError("\n".join([f"{method.name or type(method).__name__} does not conform:", *failed]))
    return passed


@dataclass(frozen=True)
class Outcome:
    """What became of a check.

    Attributes:
        check: Name of the check.
        status: ``passed``, ``failed`` or ``not applicable``.
        reason: Why it failed or does not apply; empty if it passed.
    """

    check: str
    status: str
    reason: str = ""


def outcomes(method: Reducer, adapter: ModelAdapter, samples: Sequence[Sample] | None = None) -> Iterator[Outcome]:
    """Run all checks on a method, one after the other; the arguments are those of :func:`check_method`.

    Raises:
        ParbenchError: The method compares frames, and the model reads no videos.
    """
    if method.compares_frames and (why := refusal(method, adapter.geometry)):
        raise ParbenchError(why)
    if samples is None:
        samples = few_clips(adapter) if method.compares_frames else few_questions(adapter)
    subject = Subject(method, Trial(adapter, samples))
    for name, check in _all_checks(subject):
        try:
            check()
        except NotApplicable as reason:
            yield Outcome(name, "not applicable", str(reason))
        except (AssertionError, ParbenchError) as error:
            yield Outcome(name, "failed", str(error))
        else:
            yield Outcome(name, "passed")


def _all_checks(subject: Subject) -> Iterator[tuple[str, Callable[[], None]]]:
    for check in CHECKS:
        yield check.__name__, partial(check, subject)
    for check_at in BUDGET_CHECKS:
        yield check_at.__name__, partial(check_at, subject, None)
        budget = subject.trial.part(9)
        yield f"{check_at.__name__} at {budget}", partial(check_at, subject, budget)


def _demand(condition: bool, sentence: str) -> None:
    # Not an assert statement, which python -O removes.
    if not condition:
        raise AssertionError(sentence)


# --- independent of the budget


def says_what_it_is(subject: Subject) -> None:
    """The method has a name, a title, a docstring, and a paper unless it is a control."""
    method = subject.method
    _demand(bool(method.name), "it has no name: set name in its YAML")
    _demand(bool(getattr(method, "title", "")), "its class has no title")
    _demand(bool(type(method).__doc__), "its class has no docstring")
    _demand(bool(method.paper) or method.control, "its class has no paper and is not a control")


def refuses_impossible_budgets(subject: Subject) -> None:
    """Impossible budgets are refused with an error that names the budget."""
    if isinstance(subject.method, Unreduced):
        raise NotApplicable("has no budget")
    # Where images differ, a budget above the tokens of an image keeps all of them.
    above = [] if subject.trial.adapter.geometry.varies else [subject.trial.patches + 1]
    for budget in (0, -3, *above, 12.5, True):
        try:
            dataclasses.replace(subject.method, budget=budget).check(subject.trial.adapter.geometry)
        except ParbenchError as error:
            _demand("budget=" in str(error), f"the refusal of budget={budget} does not name it: {error}")
        else:
            raise AssertionError(f"budget={budget} is not refused")


def takes_a_ratio(subject: Subject) -> None:
    """A ratio is converted to that share of the tokens."""
    if isinstance(subject.method, Unreduced):
        raise NotApplicable("has no budget")
    asked = dataclasses.replace(subject.method, budget=0.111).asked(subject.trial.adapter.geometry)
    wanted = round(0.111 * subject.trial.patches)
    _demand(asked == wanted, f"budget=0.111 gives {asked} tokens, not {wanted}")


def keeps_everything(subject: Subject) -> None:
    """Keeping all tokens reproduces the unreduced model bit for bit."""
    if subject.method.site == "mask":
        raise NotApplicable("always keeps everything")
    method = subject.at(subject.trial.everything if subject.method.takes_budget else None)
    if method.calibrates and not method.exact_budget:
        raise NotApplicable("its budget is a mean")
    try:
        method.check(subject.trial.adapter.geometry)
    except ParbenchError as error:
        raise NotApplicable("cannot keep everything") from error
    answers = subject.engine(method, share=False).answer(subject.trial.some)
    for ours, plain in zip(answers, subject.trial.unreduced, strict=True):
        _demand(ours.error is None, f"{ours.id} fails: {ours.error}")
        same = (_layers(ours), ours.margin, ours.text) == (_layers(plain), plain.margin, plain.text)
        _demand(same, f"{ours.id} has another answer with all tokens kept than without reduction")


def repeats_itself(subject: Subject) -> None:
    """Repeating a run gives the same result."""
    method, samples = subject.small(), subject.trial.some
    first, second = (subject.engine(method).answer(samples) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        same = (one.kept, one.text, one.margin) == (other.kept, other.text, other.margin)
        _demand(same, f"{one.id} has another result the second time: take randomness from probes.noise")


def places_what_it_keeps(subject: Subject) -> None:
    """Both position policies keep the same tokens, at different positions."""
    method = subject.method
    if method.site not in ("tokens", "tower", "feedforward") or not method.takes_budget:
        raise NotApplicable("has no position policy")
    if not subject.trial.adapter.renumbers:
        raise NotApplicable("tokens keep their positions in this family")
    samples, budget = subject.trial.samples[:2], subject.small().budget
    compact, keep = (subject.engine(subject.at(budget, positions=policy)).answer(samples) for policy in ("compact", "keep"))
    for one, other in zip(compact, keep, strict=True):
        _demand(one.error is None and other.error is None, f"{one.id} fails: {one.error or other.error}")
        _demand(one.kept == other.kept, f"the kept tokens of {one.id} depend on positions")
        _demand(one.margin != other.margin, f"positions has no effect on {one.id}")


def says_whether_it_reads_the_question(subject: Subject) -> None:
    """The method is declared prompt-aware if and only if two questions about one image give different tokens."""
    # Without sharing: otherwise the engine selects once per image for methods that are not prompt-aware.
    answers = subject.engine(subject.small(), share=False).answer(subject.trial.about_one_image)
    differs = len({answer.kept[0].patches for answer in answers}) > 1
    aware = subject.method.prompt_aware
    _demand(not differs or aware, "it keeps different tokens for two questions about one image: set prompt_aware = True")
    _demand(differs or not aware, "it has prompt_aware = True but keeps the same tokens for all questions about an image")


def looks_at_one_image(subject: Subject) -> None:
    """The kept tokens of an image do not depend on the other images of the batch."""
    adapter = subject.trial.adapter
    if subject.method.site not in ("tokens", "feedforward"):
        raise NotApplicable("acts at another site; answers alone and in a batch are compared instead")
    if "projector" not in adapter.geometry.offers:
        raise NotApplicable("images of this family are encoded one by one; answers alone and in a batch are compared instead")
    given = subject.small() if subject.method.budget is not None else subject.method
    site = site_of(given, adapter.geometry)
    method = site.between
    images = {sample.group: sample.load()[0] for sample in subject.trial.samples}
    with torch.inference_mode():
        encoded = adapter.encode(adapter.pixels_of([adapter.prepare(image) for image in images.values()]), sorted(set(site.blocks)))
    questions, seeds = ["What colour is the star?"] * len(images), list(range(11, 11 + len(images)))
    evidence: list[Shown | None] = [(frozenset({number, number + 30}),) for number in range(len(images))]
    together = method.reduce(encoded.features, Probes(adapter, encoded, questions, seeds, evidence))
    for number, image in enumerate(images):
        one = encoded.take(torch.tensor([number]))
        own = slice(number, number + 1)
        alone = method.reduce(one.features, Probes(adapter, one, questions[:1], seeds[own], evidence[own]))
        same = int(together.counts[number]) == int(alone.counts[0])
        same = same and torch.equal(together.provenance.of(number)[1], alone.provenance.of(0)[1])
        _demand(same, f"other images in the batch change the kept tokens of {image}")


def leaves_no_hooks(subject: Subject) -> None:
    """The model has the same hooks before and afterwards."""
    before = _hooks(subject.trial.adapter)
    subject.engine(subject.small()).answer(subject.trial.samples[:1])
    _demand(_hooks(subject.trial.adapter) == before, "hooks are left in the model")


# --- at a budget


def delivers_its_budget(subject: Subject, budget: int | float | None) -> None:
    """The number of kept tokens is the budget, unless the budget is a mean."""
    method = subject.deliverable(budget)
    inside = method.site == "layers"
    for answer in subject.answers(budget):
        _demand(answer.error is None and answer.ledger is not None, f"{answer.id} fails: {answer.error}")
        kept, image = _tokens(answer), _image(subject, answer)
        asked = _mean_over_layers(method, image) or method.asked(image)
        _demand(1 <= kept <= image.patches, f"{answer.id} keeps {kept:g} of {image.patches} tokens")
        if asked is not None and (method.exact_budget or inside):
            # Inside the LLM a budget is an average over layers, met to within half a token.
            exact = abs(kept - asked) <= (0.5 if inside else 0)
            _demand(exact, f"{answer.id} keeps {kept:g} tokens instead of {asked}")


def knows_where_tokens_come_from(subject: Subject, budget: int | float | None) -> None:
    """Every token comes from patches of this image."""
    method = subject.deliverable(budget)
    # CLS, if sent, is first and comes from no patch.
    nowhere = {0} if any(getattr(part, "send_cls", False) for part in (method, *method.parts)) else set()
    for answer in subject.answers(budget):
        (kept,) = answer.kept
        geometry = _image(subject, answer)
        _demand(kept.grid == (geometry.rows, geometry.columns), f"{answer.id}: the grid is {kept.grid}")
        lengths = {len(kept.patches), len(kept.weights), len(kept.token)}
        _demand(len(lengths) == 1, f"{answer.id}: patches, weights and tokens differ in length")
        inside = all(0 <= patch < geometry.patches for patch in kept.patches)
        _demand(inside, f"{answer.id}: a patch is not one of the image")
        orphans = set(range(kept.tokens)) - set(kept.token) - nowhere
        _demand(not orphans, f"{answer.id}: tokens {sorted(orphans)} come from no patch")


def counts_what_runs(subject: Subject, budget: int | float | None) -> None:
    """The ledger agrees with the kept tokens and with the prompt."""
    adapter = subject.trial.adapter
    for answer, sample in zip(subject.answers(budget), subject.trial.samples, strict=True):
        ledger = answer.ledger
        if ledger is None:
            raise AssertionError(f"{answer.id} fails: {answer.error}")
        _demand(len(ledger.layers) == len(ledger.visual) == adapter.geometry.layers, f"{answer.id}: a layer is missing")
        # Each run of the image's tokens is one token of the prompt.
        tokens = subject.trial.tokens_of(sample)
        text = len(adapter.ids(sample.prompt(1), [tokens])) - len(tokens.runs)
        reduced = answer.kept[0].tokens < len(tokens.source.content)
        sent = 0 if reduced and site_of(subject.deliverable(budget), adapter.geometry).drops_separators else 1
        text += sent * int(tokens.source.separator.sum())
        found = {full - visual for full, visual in zip(ledger.layers, ledger.visual, strict=True)}
        _demand(found == {text}, f"{answer.id}: {found} text tokens, not {text}")
        _demand(list(ledger.visual) == sorted(ledger.visual, reverse=True), f"{answer.id}: the number of tokens increases")
        if ledger.seen:
            # What a layer sees differs from layer to layer; kept is what one of them sees.
            seen = max(ledger.seen) <= answer.kept[0].tokens <= ledger.visual[-1]
            _demand(seen, f"{answer.id}: layers see {ledger.seen} tokens, but {answer.kept[0].tokens} are kept")
        else:
            _demand(answer.kept[0].tokens == ledger.visual[-1], f"{answer.id}: the last layer has other tokens than are kept")
        _demand(1 <= ledger.generated <= sample.max_new_tokens, f"{answer.id}: {ledger.generated} tokens generated")


def keeps_the_same_alone(subject: Subject, budget: int | float | None) -> None:
    """A sample alone has the same answer and tokens as in a batch."""
    method = subject.deliverable(budget)
    if method.site == "pixels":
        raise NotApplicable("keeps every token of the smaller image")
    engine, together = subject.engine(method), subject.answers(budget)
    last = len(together) - 1
    # The first and the last image; two questions about one image if the method is prompt-aware.
    for number in (0, 1, last) if method.prompt_aware else (0, last):
        (alone,) = engine.answer([subject.trial.samples[number]])
        mine, theirs = alone.kept[0], together[number].kept[0]
        same = (mine.patches, mine.token) == (theirs.patches, theirs.token)
        _demand(same, f"{alone.id} keeps other tokens alone than in a batch: select in float64, and use one sample at a time")
        _demand(alone.text == together[number].text, f"{alone.id} has another answer alone than in a batch")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    says_what_it_is,
    refuses_impossible_budgets,
    takes_a_ratio,
    keeps_everything,
    repeats_itself,
    places_what_it_keeps,
    says_whether_it_reads_the_question,
    looks_at_one_image,
    leaves_no_hooks,
)
BUDGET_CHECKS: tuple[Callable[[Subject, int | float | None], None], ...] = (
    delivers_its_budget,
    knows_where_tokens_come_from,
    counts_what_runs,
    keeps_the_same_alone,
)


def _image(subject: Subject, answer: Answer) -> Geometry:
    """The sizes of the only image or video of an answer."""
    (kept,) = answer.kept
    return subject.trial.adapter.geometry.of_image(len(kept.source.content), kept.grid, kept.source.frames)


def _mean_over_layers(method: Reducer, image: Geometry) -> float | None:
    """Inside the LLM, what a share of an image comes to on average over the layers, which depends on the image; else None."""
    if method.site != "layers":
        return None
    inside = cast("LayerReducer", method)
    return sum(inside.by_layer(image)) / image.layers if inside.is_share_of(image) else None


def _tokens(answer: Answer) -> float:
    return answer.ledger.tokens_kept if answer.ledger else 0.0


def _layers(answer: Answer) -> tuple[int, ...]:
    return answer.ledger.layers if answer.ledger else ()


def _hooks(adapter: ModelAdapter) -> int:
    modules = adapter.model.modules()
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
