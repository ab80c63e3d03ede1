"""How fast parbench evaluates, and whether engines agree."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from parbench.bench.process_rss import peak_bytes
from parbench.bench.throughput import agree
from parbench.bench.work_share import flops_done, where_time_goes
from parbench.errors import ParbenchError


def lines(*answers, **fields):
    return {f"scenes-{n}": {"prediction": text, "margin": margin, **fields} for n, (text, margin) in enumerate(answers)}


def test_answers_that_differ_come_with_the_smaller_margin():
    one = lines(("red", 3.0), ("blue", 0.5), ("two ", 1.0), kept=["f0"])
    other = lines(("red", 2.0), ("green", 0.25), ("two", None), kept=["f0"])
    found = agree(one, other)
    assert (found["questions"], found["same"], found["other_tokens"]) == (3, 2, 0)
    assert found["differing"] == [{"id": "scenes-1", "one": "blue", "other": "green", "margin": 0.25}]


def test_work_that_is_done_has_products_and_attention_in_it():
    query, key = torch.zeros(2, 6, 50, 32), torch.zeros(2, 6, 80, 32)
    mask = torch.ones(50, 80, dtype=torch.bool)

    def run():
        torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=mask)
        torch.mm(torch.zeros(10, 20), torch.zeros(20, 30))

    with torch.inference_mode():
        assert flops_done(run) == 2 * 2 * (2 * 6 * 50 * 80 * 32) + 2 * 10 * 20 * 30


def test_the_profiler_s_own_work_is_no_part_of_a_run():
    square = torch.rand(500, 500)
    shares = where_time_goes(lambda: [torch.mm(square, square) for _ in range(100)])
    assert shares["products"] > 0.7


def test_tokens_are_compared_only_where_both_know_them():
    known, unknown = lines(("red", 1.0), kept=["f0"]), lines(("red", None))
    assert agree(known, unknown)["other_tokens"] is None
    assert agree(known, lines(("red", 1.0), kept=["0f"]))["other_tokens"] == 1


def test_the_command_compares_both_engines_with_stock_lmms_eval(run, folder):
    pytest.importorskip("decord")
    code, out, err = run(
        "bench", "--engine", "questions=8", "methods=none,random", "sweep=[random]", "budgets=[64,32]", "out=rates.json"
    )
    assert code == 0, err
    found = json.loads((folder / "rates.json").read_text())
    assert [(row["by"], row["method"]) for row in found["rates"]] == [
        ("lmms-eval, llava_hf, batch 1", "none"),
        ("parbench, engine=exact", "none"),
        ("parbench, engine=shared", "none"),
        ("parbench, engine=exact", "random @64"),
        ("parbench, engine=shared", "random @64"),
    ]
    assert found["rates"][0]["times_stock"] == 1
    assert [(row["method"], row["same"], row["questions"], row["other_tokens"]) for row in found["agreement"]] == [
        ("none", 8, 8, None),
        ("none", 8, 8, 0),
        ("random @64", 8, 8, 0),
    ]
    assert [(row["method"], row["budget"]) for row in found["work"]] == [("none", None), ("random", 64)]
    none, reduced = found["work"]
    assert 0 < reduced["flops"] < none["flops"] < 8 * 3e10
    assert all(0 < row["share_of_matmul_rate"] < 1.2 for row in found["work"])
    assert all(sum(row["time"].values()) == pytest.approx(1, abs=0.01) for row in found["work"])
    assert "% of this machine's" in out
    sweep = found["sweep"]
    assert [(cell["method"], cell["budget"], cell["n"]) for cell in sweep["cells"]] == [
        ("none", None, 8),
        ("random", 64, 8),
        ("random", 32, 8),
    ]
    assert sweep["rate"] == pytest.approx(24 / sweep["seconds"], rel=0.01)
    assert "a sweep of 3 cells" in out
    assert "gives the same answer as lmms-eval, llava_hf, batch 1 to 8 of 8 questions" in out.replace("\n", " ")


@pytest.mark.cli
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell it")
def test_peak_memory_is_that_of_a_process_of_its_own(folder):
    # A parent that is larger than its child must not count.
    ballast = torch.ones(500_000_000)
    assert 2e8 < peak_bytes(["method=random", "controls=[]", "limit=4"]) < ballast.nbytes
    with pytest.raises(ParbenchError, match="limit=0 is not a whole number"):
        peak_bytes(["limit=0"])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("questions=none", "questions=none is not a whole number"),
        ("stock=perhaps", "neither true nor false"),
        ("methods=pra", "par"),
        ("dataset=pope", "leave dataset out"),
    ],
)
def test_bad_input_is_one_sentence(run, word, said):
    code, _, err = run("bench", "--engine", "stock=false", word)
    assert code == 2
    assert said in err
