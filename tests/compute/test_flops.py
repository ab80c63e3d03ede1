"""FLOPs by fvcore against the closed form, torch's own counter, and the figures of the literature."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from parbench.compute.flops import costs, sample_flops
from parbench.compute.turns import Turn, kv_bytes, turn_flops
from parbench.config import compose_config
from parbench.engine.ledger import SampleLedger
from parbench.models.configs import config_of


@pytest.fixture(scope="module", params=["llava-tiny", "llava-1.5-7b", "llava-1.5-13b"])
def config(request):
    from omegaconf import OmegaConf

    return config_of(OmegaConf.to_container(compose_config([f"model={request.param}"]).model, resolve=True))


def closed_layer(config, queries: int, keys: int) -> int:
    """2 per multiply-add of one LLM layer: four projections, three FFN matrices, q k and weights v."""
    text = config.text_config
    d, m = text.hidden_size, text.intermediate_size
    return 2 * (queries * (4 * d * d + 3 * d * m) + 2 * queries * keys * d)


def test_the_llm_is_the_closed_form(config):
    text = config.text_config
    for length in (1, 77, 124, 636):
        expected = text.num_hidden_layers * closed_layer(config, length, length) + 2 * text.hidden_size * text.vocab_size
        assert costs(config).prefill([length] * text.num_hidden_layers) == pytest.approx(expected, rel=1e-3)


def test_layers_with_different_lengths_add_up(config):
    lengths = [636] * 2 + [130] * (config.text_config.num_hidden_layers - 2)
    expected = sum(closed_layer(config, n, n) for n in lengths)
    expected += 2 * config.text_config.hidden_size * config.text_config.vocab_size
    assert costs(config).prefill(lengths) == pytest.approx(expected, rel=1e-3)


def test_decoding_is_one_query_against_a_growing_cache(config):
    lengths = [636] + [130] * (config.text_config.num_hidden_layers - 1)
    head = 2 * config.text_config.hidden_size * config.text_config.vocab_size
    expected = sum(closed_layer(config, 1, n + step) for step in (1, 2, 3) for n in lengths) + 3 * head
    assert costs(config).decode(lengths, 4) == pytest.approx(expected, rel=1e-3)
    assert costs(config).decode(lengths, 1) == 0


@pytest.mark.parametrize("held", [{"fed": (40, 40)}, {"attended": (700, 700)}])
def test_a_turn_goes_on_from_what_the_cache_holds(config, held):
    """And not from the tokens that entered the layers: some left the cache, or stand for several places in it."""
    text, ((length, _),) = config.text_config, held.values()
    ledger = SampleLedger((), 0, 0, (100, 100), (90, 90), 3, **held)
    turn = Turn(2, 8)
    token = 2 * 4 * text.num_key_value_heads * text.hidden_size // text.num_attention_heads
    assert kv_bytes(text, 4, ledger, turn) == (token * 2 * (length + 2), token * 2 * (8 + 2))
    assert turn_flops(costs(config), ledger, turn)["llm_prefill"] == costs(config).extend([(8, length)] * 2) + costs(config).head


def test_the_vision_tower_is_the_closed_form(config):
    vision = config.vision_config
    c, m, n = vision.hidden_size, vision.intermediate_size, 577
    block = 2 * (n * (4 * c * c + 2 * c * m) + 2 * n * n * c)
    embed = 2 * 576 * 3 * vision.patch_size**2 * c
    lengths = [n] * (vision.num_hidden_layers + 1)
    assert costs(config).vision([lengths]) == pytest.approx(vision.num_hidden_layers * block + embed, rel=1e-3)


def test_torchs_counter_agrees_on_the_llm(config):
    from transformers import DynamicCache, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(config.text_config)
        embeds = torch.empty(1, 124, config.text_config.hidden_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs_embeds=embeds, past_key_values=DynamicCache(config=config.text_config), logits_to_keep=1)
    counted = costs(config).prefill([124] * config.text_config.num_hidden_layers)
    assert counted == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_torchs_counter_agrees_on_tower_and_projector(adapter, scenes):
    pixels = adapter.pixels([scenes[0]["image"]])
    # torch's counter does not know the CPU's fused attention kernel.
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        features = adapter.encode(pixels).features
    tower = counter.get_total_flops()
    assert costs(adapter.model.config).vision([[577] * 7]) == pytest.approx(tower, rel=1e-3)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        adapter.project(features)
    assert costs(adapter.model.config).project * 576 == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_a_real_run_costs_what_its_ledger_says(adapter, scenes):
    """Prefill and decoding of one sample, counted while they run, against the sum over the ledger."""
    from helpers import reducer, sample
    from parbench.engine.engine import Engine

    for name in ("uniform", "fastv", "tome", "dymu", "pyramiddrop", "sparsevlm", "topv", "interaction"):
        one = sample(adapter, scenes[4])
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            (answer,) = Engine(adapter, reducer(name, 64)).answer([one])
        parts = sample_flops(costs(adapter.model.config), answer.ledger)
        # PyramidDrop listens to whole layers, of which it needs queries and keys only: the rest is computed, but not its overhead.
        assert parts["total"] == pytest.approx(counter.get_total_flops(), rel=3e-2)


def test_parts_sum_to_the_total(config):
    layers = config.text_config.num_hidden_layers
    ledger = SampleLedger(((577,) * 7,), 64, 12345, (100,) * layers, (64,) * layers, 3)
    parts = sample_flops(costs(config), ledger)
    assert parts["reducer"] == 12345
    assert parts["total"] == sum(value for part, value in parts.items() if part != "total")


def flops(run, *words):
    code, out, _ = run("flops", *words, "--json")
    assert code == 0
    return json.loads(out)


def test_the_command_gives_the_published_figures_for_7b(run):
    full, reduced = flops(run, "model=llava-1.5-7b", "tokens=[576,64]", "text=60")
    assert set(full) == {
        "model",
        "method",
        "tokens",
        "text",
        "vision",
        "projector",
        "reducer",
        "llm_prefill",
        "total",
    }
    assert full["llm_prefill"] == pytest.approx(8.45e12, rel=5e-3)
    assert reduced["llm_prefill"] == pytest.approx(1.61e12, rel=5e-3)
    assert full["total"] == pytest.approx(8.86e12, rel=5e-3)
    assert reduced["total"] == pytest.approx(2.02e12, rel=5e-3)


def test_reducing_before_the_projector_saves_there_too(run):
    after, before = (flops(run, "model=llava-1.5-7b", "tokens=64", f"place={place}_projector")[0] for place in ("after", "before"))
    assert before["projector"] == after["projector"] * 64 // 576


def test_a_method_inside_the_llm_pays_for_its_full_layers(run):
    (fastv,) = flops(run, "model=llava-1.5-7b", "tokens=192", "method=fastv")
    (any_method,) = flops(run, "model=llava-1.5-7b", "tokens=192")
    # The same average, but attention is quadratic.
    assert any_method["llm_prefill"] < fastv["llm_prefill"] < 1.05 * any_method["llm_prefill"]
    assert fastv["reducer"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tokens=0"], "tokens=0 is not a whole number of at least 1"),
        (["tokens=577"], "use 1 to 576"),
        (["tokens=many"], "tokens=many is not a whole number of at least 1"),
        (["text=0"], "text=0 is not a whole number of at least 1"),
        (["tokens=[576,64"], "write tokens=[a,b]"),
        (["place=inside"], "before_projector"),
        (["model=llava-1.5-8b"], "did you mean"),
        (["method=prumerge"], "set tokens=64"),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    code, _, err = run("flops", *words)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
