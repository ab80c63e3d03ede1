"""Adapters: merged into the weights, part of a model's name and fingerprint, and refused where they do not belong."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import parbench
from family_miniatures import write as write_miniature
from helpers import identity_of, reducer, sample
from parbench.api.models import known_of, settings_of
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models import lora
from parbench.models.adapter import ModelAdapter
from parbench.reducers import learned_files

pytestmark = pytest.mark.model
UP, GATE = (f"model.language_model.layers.0.{name}.weight" for name in ("self_attn.q_proj", "mlp.gate_proj"))
BIAS = "model.multi_modal_projector.linear_1.bias"


def write(path, loaded, size=0.0, seed=0, **about):
    """An adapter of rank 2 with B of some size, for a loaded model."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: parameter.shape for name, parameter in loaded.model.named_parameters()}
    tensors = {f"{BIAS}.delta": size * torch.randn(shapes[BIAS], generator=generator)}
    for name in (UP, GATE):
        out, inner = shapes[name]
        tensors[f"{name}.lora_A"] = torch.randn(2, inner, generator=generator)
        tensors[f"{name}.lora_B"] = size * torch.randn(out, 2, generator=generator)
    known = {"label": "random-64", "base": loaded.fingerprint, "model": loaded.name, "scale": 2.0, "method": "random", "steps": 3}
    lora.save(tensors, path, {**known, **about})
    return path


def answers(loaded, scenes):
    asked = [sample(loaded, scenes[number], number) for number in (0, 30)]
    return [(answer.text, answer.margin) for answer in Engine(loaded, reducer("random", 64)).answer(asked)]


def test_without_a_change_it_answers_as_before_bit_for_bit(adapter, settings, scenes, folder):
    zero, other = write(folder / "zero.safetensors", adapter), write(folder / "other.safetensors", adapter, 0.5)
    same = ModelAdapter.load({**settings, "adapter": str(zero)})
    before = dict(adapter.model.named_parameters())
    assert all(torch.equal(parameter, before[name]) for name, parameter in same.model.named_parameters())
    assert answers(same, scenes) == answers(adapter, scenes)
    assert (same.name, same.fingerprint != adapter.fingerprint) == ("llava-tiny+random-64", True)
    assert answers(ModelAdapter.load({**settings, "adapter": str(other)}), scenes) != answers(adapter, scenes)


def test_it_is_merged_by_hugging_faces_names_in_another_family(folder):
    """Tensors on the hub have other names than in the model."""
    path = write_miniature("llava-next-7b", folder / "next")
    config = {**settings_of("llava-next-7b"), "path": str(path), "revision": None, "device": "cpu", "dtype": "bfloat16"}
    plain = ModelAdapter.load(config)
    file = write(folder / "own.safetensors", plain, 0.1, seed=1)
    merged, said = ModelAdapter.load({**config, "adapter": str(file)}), load_file(file)
    before, after = (dict(one.model.named_parameters()) for one in (plain, merged))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {UP, GATE, BIAS}
    wanted = before[GATE].float() + 2.0 * said[f"{GATE}.lora_B"].float() @ said[f"{GATE}.lora_A"].float()
    assert torch.equal(after[GATE], wanted.bfloat16())
    assert torch.equal(after[BIAS], (before[BIAS].float() + said[f"{BIAS}.delta"].float()).bfloat16())
    assert merged.model.dtype == torch.bfloat16


def test_content_identifies_it_and_not_its_place(adapter, folder):
    one = write(folder / "one.safetensors", adapter, 0.1)
    moved = Path(shutil.copy(one, folder / "moved.safetensors"))
    other = write(folder / "other.safetensors", adapter, 0.1, seed=1)
    first, same, different = (lora.read(path).on(adapter.fingerprint) for path in (one, moved, other))
    assert first == same
    assert len({first, different, adapter.fingerprint}) == 3


def test_runs_and_tables_tell_it_from_the_shipped_model(run, adapter, folder):
    file = write(folder / "a.safetensors", adapter, 0.1)
    words = ["eval", "method=random", "limit=2", "controls=[]", "results_dir=runs"]
    for own in ([], [f"model.adapter={file}"], [f"model.adapter={shutil.copy(file, folder / 'b.safetensors')}"]):
        code, out, err = run(*words, *own)
        assert code == 0, err
        assert (f"llava-tiny{'+random-64' if own else ''} on scenes") in out
    # The copy resumes the run of the original.
    runs = {path: identity_of(path) for path in Path("runs").iterdir() if identity_of(path)["method"]["name"] == "random"}
    assert {one["model"] for one in runs.values()} == {"llava-tiny", "llava-tiny+random-64"}
    (adapted,) = (one for one in runs.values() if "adapter" in one)
    assert adapted["adapter"] == {"name": "random-64", "sha256": lora.read(file).sha256, "method": "random", "steps": 3}
    code, _, err = run("table", "runs")
    assert code == 2
    assert "differ in model (llava-tiny in 2, llava-tiny+random-64 in 2)" in err
    code, out, err = run("flops", f"model.adapter={file}", "method=random", "tokens=[64]", "--json")
    assert (code, json.loads(out)[0]["model"]) == (0, "llava-tiny+random-64"), err


def test_thresholds_of_the_shipped_model_are_not_those_of_an_adapted_one(adapter, folder):
    file = write(folder / "a.safetensors", adapter, 0.1)
    model, _ = parbench.load_model("llava-tiny", adapter=str(file))
    known = known_of(model)
    assert (known.name, known.fingerprint) == ("llava-tiny+random-64", lora.read(file).on(adapter.fingerprint))
    with pytest.raises(ParbenchError, match=rf"parbench calibrate model=llava-tiny model\.adapter={file} method=par"):
        parbench.method("par", budget=64, model=model)
    # A copy is none of the checkpoint either.
    assert known_of(copy.deepcopy(model)).fingerprint == "unknown"


def _cut(path, adapter):
    path.write_bytes(write(path, adapter).read_bytes()[:3000])


def _halved(path, adapter):
    tensors = load_file(write(path, adapter))
    del tensors[f"{UP}.lora_B"]
    save_file(tensors, path, {lora.ABOUT: json.dumps(dict(lora.read(path).about))})


def _of_a_method(path, _adapter):
    shutil.copy(learned_files.SHIPPED / "llava-tiny--vistog.safetensors", path)


def _of_other_weights(path, adapter):
    write(path, adapter, base="0" * 64)


def _misshapen(path, adapter):
    about = {"label": "x", "base": adapter.fingerprint, "model": "another", "scale": 1.0}
    lora.save({f"{UP}.delta": torch.zeros(3, 4)}, path, about)


def _of_another_model(path, adapter):
    about = {"label": "x", "base": adapter.fingerprint, "model": "another", "scale": 1.0}
    lora.save({"model.language_model.layers.40.mlp.up_proj.weight.delta": torch.zeros(3, 4)}, path, about)


@pytest.mark.parametrize(
    ("make", "words", "said"),
    [
        (None, {}, r"model\.adapter=.*a\.safetensors cannot be read \(No such file"),
        (_cut, {}, "is damaged or no safetensors file: write it with"),
        (_halved, {}, "has no pair for model.language_model.layers.0.self_attn.q_proj.weight.lora_A"),
        (
            lambda path, _: shutil.copy(learned_files.SHIPPED / "llava-tiny--vistog.safetensors", path),
            {},
            "weights of method vistog",
        ),
        (
            lambda path, adapter: write(path, adapter, base="0" * 64),
            {},
            r"other weights of llava-tiny \(fingerprint 000000000000\)",
        ),
        (_misshapen, {}, r"q_proj.weight with the shape \(3, 4\), but this model has the shape \(192, 192\): use it with another"),
        (_of_another_model, {}, r"layers.40.mlp.up_proj.weight with the shape \(3, 4\), but this model has none"),
        (write, {"quantization": "bnb-8bit", "dtype": "bfloat16"}, r"unquantised weights: leave out model\.quantization"),
        (write, {"device_map": "auto"}, r"weights of one device: leave out model\.device_map=auto"),
        (write, {"weights": "random"}, r"leave it out with model\.weights=random"),
    ],
)
def test_what_does_not_belong_is_refused_before_weights_are_loaded(adapter, settings, folder, monkeypatch, make, words, said):
    path = folder / "a.safetensors"
    if make is not None:
        make(path, adapter)
    monkeypatch.setattr("parbench.models.loading.load_strictly", None)
    with pytest.raises(ParbenchError, match=said) as error:
        ModelAdapter.load({**settings, "adapter": str(path), **words})
    assert "\n" not in str(error.value)
