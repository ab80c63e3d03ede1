"""Figures that papers print for LLaVA-1.5, by each paper's way of counting."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout

import pytest
from omegaconf import OmegaConf

from parbench.cli import main
from parbench.compute.conventions import CONVENTIONS, Tokens, divprune, fastv, pyramiddrop, sizes_of, sparsevlm, true
from parbench.compute.flops import costs
from parbench.config import compose_config
from parbench.models.configs import config_of
from paths import ROOT


def config(model: str):
    return config_of(OmegaConf.to_container(compose_config([f"model={model}"]).model, resolve=True))


# Name, LLM layers, visual tokens of LLaVA-1.5.
SEVEN, THIRTEEN, PATCHES = ("llava-1.5-7b", 32), ("llava-1.5-13b", 40), 576
# FastV's and AIM's prompts; the text that DivPrune's figures have on average; SparseVLM's.
FASTV_TEXT, AIM_TEXT, DIVPRUNE_TEXT, SPARSEVLM_TEXT = 36, 40, 45.2, 118


def cut(model, layer: int, left: int) -> list[int]:
    return [PATCHES] * layer + [left] * (model[1] - layer)


def total(convention, model, visual, **text) -> float:
    return convention(sizes_of(config(model[0])), Tokens(visual, **text))


def digits(value: float, printed: str) -> str:
    """A figure rounded as a paper printed it."""
    return f"{value:.{len(printed.partition('.')[2])}f}"


@pytest.mark.parametrize(
    ("convention", "model", "visual", "text", "printed"),
    [
        (pyramiddrop, SEVEN, [576] * 32, 0, "3.817"),
        (pyramiddrop, THIRTEEN, [576] * 40, 0, "7.444"),
        (pyramiddrop, SEVEN, [192] * 32, 0, "1.253"),
        (pyramiddrop, SEVEN, [128] * 32, 0, "0.833"),
        (pyramiddrop, SEVEN, [64] * 32, 0, "0.4155"),
        (pyramiddrop, SEVEN, [576] * 8 + [288] * 8 + [144] * 8 + [72] * 8, 0, "1.777"),
        (pyramiddrop, SEVEN, cut(SEVEN, 2, 288), 0, "2.007"),
        (sparsevlm, SEVEN, [576] * 32, SPARSEVLM_TEXT, "4.62"),
        (true, SEVEN, [576] * 32, AIM_TEXT, "8.18"),
        (divprune, SEVEN, [576] * 32, DIVPRUNE_TEXT, "3.228"),
        (divprune, SEVEN, [56] * 32, DIVPRUNE_TEXT, "0.512"),
        (divprune, THIRTEEN, [576] * 40, DIVPRUNE_TEXT, "6.281"),
        (divprune, THIRTEEN, [56] * 40, DIVPRUNE_TEXT, "1.002"),
    ],
)
def test_tflops_as_printed(convention, model, visual, text, printed):
    assert digits(total(convention, model, visual, after=text) / 1e12, printed) == printed


@pytest.mark.parametrize(("model", "printed"), [(SEVEN, "99.3"), (THIRTEEN, "154.6")])
def test_fastvs_gflops_a_layer_as_printed(model, printed):
    whole = total(fastv, model, [PATCHES] * model[1], after=FASTV_TEXT)
    assert digits(whole / model[1] / 1e9, printed) == printed


@pytest.mark.parametrize(
    ("layer", "left", "percent", "printed"),
    [(2, 288, 55, "54.6"), (2, 144, 33, "32.8"), (2, 57.6, 20, "19.9"), (3, 288, 57, "56.6"), (5, 288, 60, "59.6")],
)
def test_fastvs_shares_as_printed(layer, left, percent, printed):
    """For 7B the paper prints the rounded share, and that share of 99.3."""
    ours = total(fastv, SEVEN, cut(SEVEN, layer, left), after=FASTV_TEXT)
    share = round(100 * ours / total(fastv, SEVEN, [PATCHES] * 32, after=FASTV_TEXT))
    assert share == percent
    assert digits(99.3 * share / 100, printed) == printed


def test_fastvs_halved_13b_as_printed():
    assert digits(total(fastv, THIRTEEN, cut(THIRTEEN, 2, 288), after=FASTV_TEXT) / 40 / 1e9, "84.6") == "84.6"


@pytest.mark.parametrize("model", ["llava-tiny", "llava-1.5-7b", "llava-1.5-13b"])
@pytest.mark.parametrize("left", [1, 64, 576])
def test_true_is_what_fvcore_counts(model, left):
    found = config(model)
    depth = found.text_config.num_hidden_layers
    visual = [576, *[left] * (depth - 1)]
    counted = costs(found).prefill([count + 60 for count in visual])
    assert true(sizes_of(found), Tokens(visual, after=25, system=35)) == counted


def rows(run, *words):
    code, out, _ = run("flops", *words, "--json")
    assert code == 0
    return json.loads(out)


def test_the_command_prints_them_beside_ours(run):
    vanilla, reduced = rows(run, "model=llava-1.5-7b", "tokens=[576,64]", "text=118", "--convention")
    assert list(vanilla["conventions"]) == list(CONVENTIONS)
    assert vanilla["conventions"]["true"] == vanilla["llm_prefill"]
    found = {name: round(value / 1e12, 3) for name, value in vanilla["conventions"].items()}
    assert found["pyramiddrop"] == 3.817
    assert found["sparsevlm"] == 4.621
    assert round(reduced["conventions"]["pyramiddrop"] / 1e12, 4) == 0.4155
    (fastv_row,) = rows(run, "model=llava-1.5-7b", "method=fastv", "tokens=306", "text=36", "--convention")
    # K = 2 and R = 50 % are an average of 306 visual tokens.
    assert round(fastv_row["conventions"]["pyramiddrop"] / 1e12, 3) == 2.007
    assert round(fastv_row["conventions"]["fastv"] / 32 / 1e9, 1) == 54.8


def test_without_the_flag_the_keys_are_the_contracts(run):
    (row,) = rows(run, "model=llava-1.5-7b", "tokens=64")
    assert "conventions" not in row


def test_divprune_leaves_the_system_prompt_out(run):
    for words, after in (((), 25), (("system=0",), 60), (("text=20",), 1)):
        (row,) = rows(run, "model=llava-1.5-7b", "tokens=64", "--convention", *words)
        assert row["conventions"]["divprune"] == total(divprune, SEVEN, [64] * 32, after=after)


@pytest.fixture(scope="module")
def claimed():
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main(["flops", "claim=par", "model=llava-1.5-7b", "--json"]) == 0
    return json.loads(printed.getvalue())


def test_the_claim_under_each_count(claimed):
    saved = {(row["count"], row["text"]): row["saved"] for row in claimed}
    counts = ("llm", "everything", "pyramiddrop", "fastv", "sparsevlm", "divprune")
    assert set(saved) == {(name, text) for name in counts for text in (40, 80, 118)}
    # PAR claims 83 %: the LLM alone at PruMerge's 40 text tokens fits, everything together does not.
    assert saved["llm", 40] == pytest.approx(0.835, abs=5e-4)
    assert saved["everything", 40] < 0.80
    assert saved["llm", 80] < 0.80
    assert saved["pyramiddrop", 40] == saved["pyramiddrop", 80] > 0.89
    assert {row["tokens"] for row in claimed} == {64}


def test_the_page_says_what_the_command_says(claimed):
    page = (ROOT / "docs" / "flops.md").read_text()
    titles = {"llm": "LLM only", "everything": "everything:", "fastv": "FastV's |", "sparsevlm": "SparseVLM's |"}
    titles |= {"pyramiddrop": "PyramidDrop's |", "divprune": "DivPrune's |"}
    for name, title in titles.items():
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {title}"))
        found = [float(figure) for figure in re.findall(r"-(\d+\.\d) %", line)]
        assert found == [round(100 * row["saved"], 1) for row in claimed if row["count"] == name]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["system=70"], "use 0 to 60"),
        (["claim=pax"], "did you mean par"),
        (["claim=par", "method=fastv"], "leave one of them out"),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    code, _, err = run("flops", *words, "--convention")
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
