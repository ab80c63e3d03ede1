"""Models on several devices, in memory and on disk: whatever is in conf/method/ gives what it gives on one device."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload

from helpers import METHODS, refused, sample, within_reach
from parbench.config import compose_config
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.harness.session import Session
from parbench.models.adapter import ModelAdapter
from parbench.models.assets import asset
from parbench.models.placement import bridge, check_placement
from simulated_cards import SimulatedCards, on_card


@pytest.fixture(scope="module")
def grouped(tmp_path_factory, settings) -> dict:
    """A LLaVA whose heads share keys and values and whose head is no copy of its embeddings, with random weights."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    folder = tmp_path_factory.mktemp("grouped")
    config = LlavaConfig.from_pretrained(asset("llava-tiny"))
    config.text_config.num_hidden_layers = 6
    config.text_config.num_key_value_heads = config.text_config.num_attention_heads // 2
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlavaForConditionalGeneration(config).save_pretrained(folder)
    for path in Path(asset("llava-tiny")).iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copy(path, folder)
    return {**settings, "name": "grouped", "path": str(folder)}


def spread(adapter, embeddings: str, head: str) -> dict[str, str]:
    """Every second layer on disk, and parts of the rest."""
    layers = {f"model.language_model.layers.{i}": ("cpu", "disk")[i % 2] for i in range(adapter.geometry.layers)}
    blocks = {f"model.vision_tower.encoder.layers.{i}": ("disk", "cpu")[i % 2] for i in range(adapter.geometry.blocks)}
    tower = {f"model.vision_tower.{part}": "disk" for part in ("embeddings", "pre_layrnorm", "post_layernorm")}
    language = {"embed_tokens": embeddings, "norm": "disk", "rotary_emb": "cpu"}
    return {
        **layers,
        **blocks,
        **tower,
        **{f"model.language_model.{part}": place for part, place in language.items()},
        "model.multi_modal_projector": "disk",
        "lm_head": head,
    }


def given(adapter, scenes, name: str) -> list:
    """What a method answers and keeps, and what it costs."""
    try:
        answers = Engine(adapter, within_reach(name, adapter.geometry)).answer(
            [sample(adapter, scenes[number], number, max_new_tokens=3) for number in (0, 9)]
        )
    except ParbenchError as error:
        return [str(error)]
    assert not any(answer.error for answer in answers)
    return [(one.text, one.kept, one.ledger, one.margin, one.stages) for one in answers]


# A method of each kind; all of them run on simulated cards.
EACH_KIND = ("none", "downsample", "dymu", "prumerge", "trim", "fastv", "sparsevlm", "pyramiddrop", "vtw", "yopo")


@pytest.fixture(scope="module")
def on_one_device(adapter, scenes) -> dict[str, list]:
    """What every method gives with llava-tiny in one piece."""
    return {name: given(adapter, scenes, name) for name in METHODS}


def test_methods_with_parts_on_disk(settings, adapter, scenes, on_one_device):
    placed = ModelAdapter.load({**settings, "device_map": spread(adapter, "disk", "disk")})
    assert {tensor.device.type for tensor in placed.model.parameters()} == {"cpu", "meta"}
    assert placed.device.type == "cpu"
    assert [name for name in EACH_KIND if given(placed, scenes, name) != on_one_device[name]] == []


@pytest.mark.model
def test_grouped_heads_with_everything_elsewhere(grouped, scenes):
    plain = ModelAdapter.load(grouped)
    wanted = {name: given(plain, scenes, name) for name in EACH_KIND}
    assert sum(len(found) > 1 for found in wanted.values()) >= len(EACH_KIND) - 1
    for device_map in ({"": "disk"}, spread(plain, "cpu", "disk"), "auto"):
        placed = ModelAdapter.load({**grouped, "device_map": device_map})
        names = EACH_KIND if device_map == {"": "disk"} else ("fastv", "dymu")
        assert [name for name in names if given(placed, scenes, name) != wanted[name]] == []
    cpu_offload(plain.model, execution_device=torch.device("cpu"))
    bridge(plain.model)
    assert {tensor.device.type for tensor in plain.model.parameters()} == {"cpu", "meta"}
    names = ("fastv", "trim", "downsample")
    assert [name for name in names if given(plain, scenes, name) != wanted[name]] == []


def test_all_methods_on_four_simulated_cards(settings, scenes, on_one_device, monkeypatch):
    """Layer 0 is not where the embeddings are, and neighbours are never on one card."""
    spread_out = ModelAdapter.load({**settings, "name": "spread out"})
    tower, language = spread_out.model.model.vision_tower, spread_out.model.model.language_model
    # What is one tensor cannot be in two places.
    head = spread_out.model.lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    layers = [*tower.encoder.layers, *language.layers]
    parts = [(part, (number + 1) % 3) for number, part in enumerate(layers)]
    parts += [(tower.embeddings, 1), (tower.pre_layrnorm, 1), (tower.post_layernorm, 2), (language.embed_tokens, 0)]
    parts += [
        (language.rotary_emb, 0),
        (language.norm, 3),
        (head, 2),
        (spread_out.model.model.multi_modal_projector, 2),
    ]
    for part, number in parts:
        on_card(part, number)
    # A batch that fails is tried sample by sample, and a failure recorded: here it has to be seen.
    monkeypatch.setattr(Engine, "_batch_or_single", Engine.run)
    with SimulatedCards():
        bridge(spread_out.model)
        assert spread_out.device == torch.device("cuda:0")
        with pytest.raises(RuntimeError, match="same device"):
            language.norm.weight + language.embed_tokens.weight[0]
        found = {name: given(spread_out, scenes, name) for name in METHODS}
    for name in METHODS:
        for (text, kept, ledger, margin, stages), one in zip(found[name], on_one_device[name], strict=True):
            # Copies lie elsewhere in memory, which a sum's last bits may show.
            assert (text, kept, ledger, stages) == (*one[:3], one[4]), name
            assert margin == pytest.approx(one[3], abs=1e-4), name


@pytest.mark.model
def test_a_placed_checkpoint_is_whole_too(grouped, folder):
    from safetensors.torch import load_file, save_file

    shutil.copytree(grouped["path"], folder / "model")
    tensors = load_file(folder / "model" / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    del tensors[gone]
    save_file(tensors, folder / "model" / "model.safetensors", {"format": "pt"})
    for device_map in ("auto", {"": "disk"}):
        with pytest.raises(ParbenchError, match=r"missing tensors .*layers\.1\.mlp\.up_proj"):
            ModelAdapter.load({**grouped, "path": str(folder / "model"), "device_map": device_map})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.device_map=anywhere"], "use auto, balanced, balanced_low_0, sequential or a mapping"),
        (["model.device_map=3"], "is not a mapping of modules to devices"),
        (["model.device_map=auto", "model.device=cpu"], "exclude each other"),
        (["model.max_memory={0:20GiB}"], "set model.device_map=auto too"),
        (["model.device_map=auto", "model.max_memory={cpu:plenty}"], "is not a size: write 20GiB"),
        (["model.device_map=auto", "model.max_memory=20GiB"], "is not a mapping"),
        (
            ["model.device_map=auto", "model.max_memory={7:20GiB}"],
            "no CUDA" if not torch.cuda.is_available() else "CUDA",
        ),
        (["model.device_map={lm_head:gpu}"], "lm_head is gpu: model.device=gpu is not a device"),
        (["model.device_map={lm_head:true}"], "which is not a device"),
        (["model.device_map={lm_heat:cpu}"], "unknown module in model.device_map 'lm_heat': did you mean lm_head"),
        (["model.device_map={lm_head:cpu}"], "has no place for"),
        (["model.device_map={model:cpu,lm_head:disk}"], "are tied in this model"),
    ],
)
def test_a_place_that_is_none_is_said(run, words, said):
    assert said in refused(run, "eval", "method=none", "limit=2", *words)


def test_random_weights_are_on_one_device(settings):
    for words in ({"weights": "random"}, {"llm_layers": 2}):
        with pytest.raises(ParbenchError, match="create weights on one device"):
            check_placement({**settings, **words, "device_map": "auto"})


def test_a_place_changes_no_identity():
    plain, placed, numbered = (
        Session(compose_config(words)) for words in ([], ["model.device_map={model:disk,lm_head:disk}"], ["model.device=cpu"])
    )
    method = plain.reducer(compose_config(["method=random"]).method)
    assert plain.identity(method) == placed.identity(method) == numbered.identity(method)


def test_a_benchmark_is_of_one_device(run):
    assert "one device" in refused(run, "bench", "methods=[random]", "budgets=[64]", "model.device_map=auto")
