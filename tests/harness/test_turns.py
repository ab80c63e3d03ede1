"""Conversations end to end: what is asked, what is kept and what it costs, turn by turn."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from helpers import identity_of, reducer, refused
from parbench.config import compose_config
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.harness.conversations import Conversations
from parbench.harness.prompts import build_prompt
from parbench.harness.session import Session
from parbench.scenes.questions import SKILLS
from parbench.scenes.splits import SPLITS, rows, splits_of

WORDS = ("dataset=scenes_turns", "controls=[]", "limit=24", "results_dir=runs")


def runs(folder) -> dict[tuple[str, str], list[dict]]:
    """The samples of each run without their times, by method and ``turns``."""
    found = {}
    for path in folder.glob("*/samples.jsonl"):
        identity = identity_of(path.parent)
        lines = [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        found[identity["method"]["name"], identity["turns"]] = sorted(lines, key=lambda line: int(line["id"].split("-")[1]))
    return found


@pytest.mark.parametrize("name", splits_of("scenes_turns").values())
def test_every_turn_asks_the_same_skills_equally_often(name):
    found = list(rows(name))
    by_turn = [Counter(row["skill"] for row in found if row["turn"] == turn) for turn in range(1, SPLITS[name].turns + 1)]
    assert set(by_turn[0]) == set(SKILLS)
    assert len(set(by_turn[0].values())) == 1
    assert all(count == by_turn[0] for count in by_turn)
    skills = Counter((row["image_id"], row["skill"]) for row in found)
    assert max(skills.values()) == 1
    assert [row["turn"] for row in found] == [1, 2, 3, 4] * SPLITS[name].images


def test_a_prompt_holds_the_conversation_so_far(adapter, monkeypatch):
    earlier = [("What colour is the ring?", "red"), ("Where is it?", "")]
    prompt = build_prompt(adapter, "And the star?", 1, earlier)
    assert prompt == (
        "USER: <image>\nWhat colour is the ring? ASSISTANT: red</s>USER: Where is it? ASSISTANT: </s>USER: And the star? ASSISTANT:"
    )
    monkeypatch.setattr(adapter, "prompt", "vicuna_v1")
    assert build_prompt(adapter, "And the star?", 1, earlier).endswith(prompt.replace("</s>USER: And", "</s>USER: And"))


@pytest.mark.parametrize(("limit", "joined"), [(6, 2), (8, 4), (None, 4)])
def test_a_union_is_of_the_questions_that_are_asked(adapter, limit, joined):
    words = ["dataset=scenes_turns", "method=cdpruner", *([] if limit is None else [f"limit={limit}"])]
    session = Session(compose_config([*words, "turns=union"]))
    docs = session.dataset.docs()
    asking = Conversations(adapter, session.dataset, "union", {}, lambda _: None, session.asked)
    alone = Sample("4", lambda _: "", session.dataset.question(docs[4]), list, "image")
    assert asking.sample(alone, docs[4]).chosen_for.question == " ".join(
        session.dataset.question(docs[row]) for row in range(4, 4 + joined)
    )
    # A run that joined what was not asked keeps its id for itself.
    method = reducer("cdpruner", 64)
    assert ("joins" in session.identity(method)) == (limit == 6)
    assert "joins" not in Session(compose_config([*words, "turns=first"])).identity(method)


def test_turns_end_to_end(run, folder):
    """First, each and union differ only where they can; a method that does not look at the prompt runs once."""
    for turns in ("first", "each", "union"):
        code, out, err = run("sweep", "methods=[cdpruner,random]", "budgets=[64]", f"turns={turns}", *WORDS)
        assert code == 0, err
    found = runs(folder / "runs")
    assert set(found) == {("none", "any"), ("random", "any"), ("cdpruner", "first"), ("cdpruner", "each"), ("cdpruner", "union")}
    first, each, union = (found["cdpruner", turns] for turns in ("first", "each", "union"))
    for conversation in (first[at : at + 4] for at in range(0, 24, 4)):
        assert [line["turn"] for line in conversation] == [1, 2, 3, 4]
        assert len({tuple(line["kept"]) for line in conversation}) == 1, "the first turn's tokens stay"
    assert len({tuple(line["kept"]) for line in each[:4]}) == 4
    assert len({tuple(line["kept"]) for line in union[:4]}) == 1
    assert union[0]["kept"] != first[0]["kept"]
    for one, other in zip(first, each, strict=True):
        assert (one["kept"] == other["kept"]) == (one["turn"] == 1)
        if one["turn"] == 1:
            assert one == other
            continue
        assert one["flops"]["vision"] == one["flops"]["reducer"] == one["flops"]["projector"] == other["flops"]["vision"] == 0
        assert other["flops"]["reducer"] > 0
        assert 0 < one["flops"]["llm_prefill"] < other["flops"]["llm_prefill"] / 2
        assert other["kv_written"] == other["kv_bytes"] > 3 * one["kv_written"]
    # A cache that is used on is what its turns wrote.
    for line, before in zip(first[1:4], first[:3], strict=True):
        assert line["kv_bytes"] == before["kv_bytes"] + line["kv_written"]
    code, out, err = run("table", "runs", "views=turns,costs")
    assert code == 0, err
    assert "cdpruner @64 first" in out
    assert "random @64 " in out


def test_a_killed_conversation_goes_on_where_it_stopped(run, folder):
    words = ("eval", "method=par", "turns=union", *WORDS)
    assert run(*words)[0] == 0
    before = {path: path.read_bytes() for path in (folder / "runs").glob("*/samples.jsonl")}
    whole = runs(folder / "runs")
    for path, content in before.items():
        path.write_bytes(content[: len(content) // 2])
        (path.parent / "metrics.json").unlink()
    assert run(*words)[0] == 0
    assert runs(folder / "runs") == whole


def test_without_history_each_question_stands_alone(run, folder):
    assert run("eval", "method=none", "dataset.history=none", "engine.batch_size=4", *WORDS)[0] == 0
    lines = runs(folder / "runs")["none", "any"]
    assert all(line["kv_written"] < lines[0]["kv_bytes"] / 10 for line in lines if line["turn"] > 1)
    held = [line["layers"][0][0] for line in lines]
    assert max(held) - min(held) < 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["turns=foo"], "unknown turns 'foo': known are each, first, union"),
        (["turns=each"], "turns=each means nothing for scenes, whose questions are asked one by one"),
        (["dataset=scenes_turns", "dataset.history=all"], "unknown dataset.history 'all': known are none, own"),
        (["dataset=scenes_turns", "dataset.skill=count"], "would tear the conversations of scenes_turns apart"),
        (["dataset=scenes_turns", "dataset.split=train"], "unknown dataset.split of scenes_turns 'train': known are test, val"),
        (["dataset.split=turns-test"], "unknown dataset.split of scenes 'turns-test'"),
        (["dataset=scenes_turns", "method=fastv", "method.variant=in_place"], "works without one: use turns=each"),
        (["dataset=scenes_turns", "method=skip-vision"], "has removed what the prefill of a later turn would see: use turns=each"),
    ],
)
def test_what_makes_no_conversation_is_refused(run, words, said):
    assert said in refused(run, "eval", *words)


def test_lmms_eval_alone_holds_no_conversations(adapter):
    from types import SimpleNamespace

    from parbench.harness.lmms_model import ParbenchLlava

    model = ParbenchLlava(engine=Engine(adapter, reducer("none")), batch_size=1)
    request = SimpleNamespace(args=("Is there a ring?", {}, None, 0, "scenes_turns", "test"))
    with pytest.raises(ParbenchError, match="use parbench eval dataset=scenes_turns"):
        model.generate_until([request])
