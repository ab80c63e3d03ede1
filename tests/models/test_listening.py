"""Listening to attention kernels: what is heard, and that the registry is as before."""

from __future__ import annotations

import inspect
import threading

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma2Config, LlamaConfig, Qwen3Config
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gemma2.modeling_gemma2 import Gemma2Model
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from helpers import reducer, sample
from parbench.engine.engine import Engine
from parbench.models.attention import position_bias
from parbench.models.listening import attention_inputs, listening

SIZES = {
    "vocab_size": 40,
    "hidden_size": 48,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": None,
}
KINDS = {
    "llama": (LlamaModel, LlamaConfig),
    # Norms of queries and keys.
    "qwen3": (Qwen3Model, Qwen3Config),
    # A soft cap, small enough to matter.
    "gemma2": (Gemma2Model, lambda **sizes: Gemma2Config(**sizes, attn_logit_softcapping=0.5, sliding_window=64)),
}
LENGTHS = (9, 6)


def made(kind: str, kernel: str = "eager"):
    torch.manual_seed(0)
    model_class, config_class = KINDS[kind]
    config = config_class(**SIZES)
    config._attn_implementation = kernel
    model = model_class(config).eval()
    # Random weights of norms, so that leaving one out is noticed.
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, 1.0, 0.3)
    return model


def given():
    ids = torch.arange(2 * LENGTHS[0]).view(2, -1)
    mask = (torch.arange(LENGTHS[0])[None] >= torch.tensor([[LENGTHS[0] - length] for length in LENGTHS])).long()
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


@pytest.fixture(autouse=True)
def registry():
    before = {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS}
    yield before
    assert {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS} == before
    assert not ALL_ATTENTION_FUNCTIONS._local_mapping


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_weights_are_those_of_eager_attention(kind):
    model, heard, row = made(kind), {}, torch.arange(2)
    every = torch.arange(LENGTHS[0]).expand(2, -1)
    with listening({layer.self_attn: lambda inputs, layer=layer: heard.update({layer: inputs}) for layer in model.layers}):
        found = model(**given(), output_attentions=True)
    for layer, weights in zip(model.layers, found.attentions, strict=True):
        rows = heard[layer].rows(given()["attention_mask"], row, every)
        real = given()["attention_mask"].bool()
        torch.testing.assert_close(rows.transpose(1, 2)[real].float(), weights.transpose(1, 2)[real], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_layer_that_has_not_run_has_the_inputs_of_its_run(kind):
    model, heard, entering = made(kind), [], {}
    layer = model.layers[1]
    seen = layer.register_forward_pre_hook(
        lambda _layer, args, kwargs: entering.update(kwargs, hidden=args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with seen, listening({layer.self_attn: heard.append}):
        cache = model(**given(), use_cache=True).past_key_values
    held = [one.keys.clone() for one in cache.layers]
    ahead = attention_inputs(layer, entering["hidden"], entering["position_embeddings"])
    assert torch.equal(ahead.queries, heard[0].queries)
    assert torch.equal(ahead.keys, heard[0].keys)
    assert (ahead.scaling, ahead.softcap) == (heard[0].scaling, heard[0].softcap)
    assert all(torch.equal(one.keys, keys) for one, keys in zip(cache.layers, held, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_what_is_not_asked_for_is_not_computed(kind):
    layer = made(kind).layers[1]
    hidden = torch.randn(2, 9, 48)
    tables = (torch.rand(2, 9, 8), torch.rand(2, 9, 8))

    def products(**asked):
        with FlopCounterMode(display=False) as counter:
            found = attention_inputs(layer, hidden, tables, **asked)
        return found, counter.get_total_flops()

    # Six query heads and two key heads, of width 8.
    (whole, both), (part, keys) = products(), products(queries=False)
    assert both == 2 * 18 * 48 * (48 + 16)
    assert keys == 2 * 18 * 48 * 16
    assert torch.equal(part.keys, whole.keys)
    # The layer itself is as before.
    assert layer.self_attn.v_proj(hidden).any()


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@torch.inference_mode()
def test_who_listens_changes_nothing(kernel):
    model, heard = made("llama", kernel), []
    before = model(**given()).last_hidden_state
    with listening({model.layers[0].self_attn: heard.append}):
        assert torch.equal(model(**given()).last_hidden_state, before)
    assert len(heard) == 1
    assert torch.equal(model(**given()).last_hidden_state, before)
    assert len(heard) == 1


@torch.inference_mode()
def test_one_eager_wrapper_serves_models_of_several_files():
    models, heard = [made(kind) for kind in KINDS], []
    alone = [model(**given()).last_hidden_state for model in models]
    with listening({model.layers[0].self_attn: heard.append for model in models}):
        for model, before in zip(models, alone, strict=True):
            assert torch.equal(model(**given()).last_hidden_state, before)
    assert [inputs.softcap for inputs in heard] == [None, None, 0.5]


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@torch.inference_mode()
def test_blocks_end_in_any_order_and_after_errors(kernel):
    model, heard = made("llama", kernel), []
    first, second = (layer.self_attn for layer in model.layers)

    def fail(_inputs):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), listening({first: heard.append}), listening({second: fail}):
        model(**given())
    assert len(heard) == 1
    outer, inner = listening({first: lambda _: heard.append("outer")}), listening({first: lambda _: heard.append("inner")})
    del heard[:]
    outer.__enter__()
    inner.__enter__()
    model(**given())
    assert heard == ["inner", "outer"]
    outer.__exit__(None, None, None)
    model(**given())
    assert heard == ["inner", "outer", "inner"]
    inner.__exit__(None, None, None)


@torch.inference_mode()
def test_a_take_may_listen_itself():
    model, heard = made("llama", "sdpa"), []
    first, second = model.layers
    tables = model.rotary_emb(torch.zeros(2, 9, 48), position_ids=given()["position_ids"])

    def look_ahead(_inputs):
        heard.append(attention_inputs(second, torch.zeros(2, 9, 48), tables))

    before = model(**given()).last_hidden_state
    with listening({first.self_attn: look_ahead, second.self_attn: heard.append}):
        assert torch.equal(model(**given()).last_hidden_state, before)
    # What was asked ahead is not heard as a run of the layer.
    assert len(heard) == 2
    assert not heard[0].keys.any()
    assert heard[1].keys.any()


@torch.inference_mode()
def test_threads_hear_their_own_models():
    """Both listen at once, and the one that began first ends first."""
    begun, ended = threading.Event(), threading.Event()
    mine, others = made("llama", "sdpa"), made("qwen3", "sdpa")
    heard = {"mine": [], "others": []}

    @torch.inference_mode()
    def other():
        with listening({others.layers[0].self_attn: heard["others"].append}):
            begun.set()
            assert ended.wait(60)
            others(**given())

    thread = threading.Thread(target=other)
    with listening({mine.layers[0].self_attn: heard["mine"].append}):
        thread.start()
        assert begun.wait(60)
        mine(**given())
    ended.set()
    thread.join()
    assert {name: len(inputs) for name, inputs in heard.items()} == {"mine": 1, "others": 1}


def test_a_kernel_that_was_registered_for_one_instance_is_put_back(monkeypatch):
    def own(*args, **kwargs):
        return before(*args, **kwargs)

    before, model, heard = ALL_ATTENTION_FUNCTIONS["sdpa"], made("llama", "sdpa"), []
    ALL_ATTENTION_FUNCTIONS["sdpa"] = own
    try:
        with torch.inference_mode(), listening({model.layers[0].self_attn: heard.append}):
            model(**given())
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is own
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]
    assert heard


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop", "visionzip"])
def test_every_kernel_gives_methods_their_attention(adapter, scenes, name):
    asked, answers = [sample(adapter, scenes[number], number) for number in (0, 1, 10)], {}
    try:
        for kernel in ("eager", "sdpa"):
            adapter.model.set_attn_implementation(kernel)
            answers[kernel] = Engine(adapter, reducer(name, 64)).answer(asked)
    finally:
        adapter.model.set_attn_implementation("sdpa")
    eager, sdpa = ([(answer.text, answer.kept) for answer in found] for found in answers.values())
    assert eager == sdpa


def test_position_bias_is_the_product_of_rotated_ones():
    model = made("llama")
    tables = model.rotary_emb(torch.zeros(1, 9, 48), position_ids=torch.arange(9)[None])
    rotate = inspect.getmodule(LlamaModel).apply_rotary_pos_emb
    ones = torch.ones(1, 1, 9, 8)
    query, key = rotate(ones, ones, *tables)
    expected = (query @ key.transpose(2, 3))[0, 0] * 0.5
    found = position_bias(tables, 0.5, torch.tensor([0, 1]), torch.tensor([[3, 4], [8, 0]]))
    torch.testing.assert_close(found.float(), torch.stack([expected[[3, 4]], expected[[8, 0]]]))
