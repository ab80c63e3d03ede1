"""FLOPs of an image of a given size, predicted for the published sizes of every family without files."""

from __future__ import annotations

import json

import pytest

from parbench.compute.conventions import Sizes, Tokens, sizes_of, true
from parbench.compute.flops import costs
from parbench.compute.images import seen
from parbench.config.plain import option
from parbench.models.configs import config_of


def flops(run, *words):
    code, out, _ = run("flops", *words, "--json")
    assert code == 0
    return json.loads(out)


# Grouped-query attention; heads wider than the hidden states divided by their number (Qwen3-VL 4B, Gemma 3).
@pytest.mark.parametrize("name", ["llava-1.5-7b", "llava-next-mistral-7b", "qwen2.5-vl-7b", "qwen3-vl-4b", "gemma3-4b"])
def test_an_llm_of_any_family_is_the_closed_form(name):
    config = config_of(option("model", name))
    lengths = [300] * (config.text_config.num_hidden_layers - 1) + [40]
    tokens = Tokens([length - 30 for length in lengths], 20, 10)
    assert costs(config).prefill(lengths) == true(sizes_of(config), tokens)


def test_without_grouped_keys_all_projections_are_as_wide_as_the_model():
    tokens = Tokens([576] * 32, 60)
    assert true(Sizes(4096, 11008, 32064), tokens) == true(Sizes(4096, 11008, 32064, 4096, 4096), tokens)


def test_qwens_windows_by_hand():
    """1024 x 768 pixels become 1036 x 756: 54 rows of 74 patches. A window is 8 x 8 patches; the last column of windows has 2, the
    last row 6."""
    found, cost = seen(option("model", "qwen2.5-vl-7b"), (1024, 768)), costs(config_of(option("model", "qwen2.5-vl-7b")))
    width, inner, patches = 1280, 3420, 74 * 54
    near = sum((rows * columns) ** 2 for rows in [8] * 6 + [6] for columns in [8] * 9 + [2])
    linear = 32 * patches * 2 * (4 * width**2 + 3 * width * inner)
    attention = 4 * width * (28 * near + 4 * patches**2)
    embedding = patches * 2 * 3 * 2 * 14**2 * width
    assert cost.tower([found.work]) == linear + attention + embedding
    assert cost.project * found.work.groups == patches // 4 * 2 * (5120 * 5120 + 5120 * 3584)
    assert found.geometry.patches == patches // 4


def test_all_crops_of_llava_next_go_through_tower_and_projector(run):
    full, reduced = flops(run, "model=llava-next-7b", "tokens=[null,320]", "text=1")
    (llava,) = flops(run, "model=llava-1.5-7b", "text=1")
    assert (full["image"], full["visual"], full["tokens"]) == ("672x672", 2928, 2928)
    for row in (full, reduced):
        assert (row["vision"], row["projector"]) == (5 * llava["vision"], 5 * llava["projector"])
    # TOPS, GlobalCom2 and CDPruner print 41.7 T for 2880 tokens and 4.2 T for 320, for the LLM without text.
    (counted,) = flops(run, "model=llava-next-7b", "tokens=2880", "text=1")
    assert counted["llm_prefill"] == pytest.approx(41.7e12, rel=2e-3)
    assert reduced["llm_prefill"] == pytest.approx(4.2e12, rel=5e-3)


def test_a_share_is_of_the_images_own_tokens(run):
    rows = flops(run, "model=qwen2.5-vl-7b", "image=1024x768", "tokens=[0.333,0.222,0.111]")
    assert [row["tokens"] for row in rows] == [333, 222, 111]
    assert {row["visual"] for row in rows} == {999}
    (fastv,) = flops(run, "model=qwen2.5-vl-7b", "image=1024x768", "tokens=0.333", "method=fastv")
    assert fastv["llm_prefill"] > rows[0]["llm_prefill"]


def test_merging_before_the_projector_is_cheaper_there(run):
    after, before = (flops(run, "model=qwen2.5-vl-7b", "tokens=64", f"place={place}_projector")[0] for place in ("after", "before"))
    assert before["projector"] * 576 == after["projector"] * 64


def test_pixel_limits_of_a_model_count(run):
    (small,) = flops(run, "model=qwen2.5-vl-7b", "image=1920x1080", "model.max_pixels=602112")
    assert small["visual"] == 720


def test_published_figures_stand_beside(run):
    row, other = flops(run, "model=llava-1.5-7b", "tokens=[null,64]", "--published")
    assert {"method": "none", "tokens": 576.0, "tflop": 3.228, "source": "arXiv:2503.02175"} in row["published"]
    assert {one["method"] for one in row["published"]} == {"none"}
    assert {one["tokens"] for one in other["published"]} == {64.0}
    assert "none" not in {one["method"] for one in other["published"]}
    _, out, _ = run("flops", "model=llava-1.5-7b", "--published")
    assert "sources)" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image=abc"], "image=abc is no size in pixels: write image=WIDTHxHEIGHT"),
        (["image=0x64"], "image=0x64 is no size in pixels"),
        (["image=20000x20000"], "image=20000x20000 has 400000000 pixels"),
        (["image=3000x10"], "the processor of qwen2.5-vl-7b refuses image=3000x10: absolute aspect ratio"),
        (["image=1x1", "tokens=5"], "tokens=5 is impossible for qwen2.5-vl-7b at image=1x1: use 1 to 4"),
        (["image=1024x768", "tokens=1000"], "use 1 to 999"),
        (["tokens=64", "method=tome"], "method tome changes what the vision tower computes"),
        (["tokens=64", "method=divprune", "own=true"], "own=true counts the overhead of methods on LLaVA-1.5 only"),
        (["claim=par", "published=true"], "published=true has no place beside claim"),
        (["model.max_pixels=none"], "model.max_pixels=none is not a number of pixels"),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    code, _, err = run("flops", "model=qwen2.5-vl-7b", *words)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
