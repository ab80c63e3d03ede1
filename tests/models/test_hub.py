"""Checkpoints as they are published: a CLIP that is a pickle, half-copied caches, other kinds of models."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers import refused
from hub_miniature import CLIP, CLIP_REVISION, EARLY_REVISION, LLAVA_REVISION, build_hub, clip_files, use_hub
from parbench.errors import ParbenchError
from parbench.models import clip_pickle, fingerprints
from parbench.models.adapter import ModelAdapter
from parbench.models.assets import asset
from parbench.models.loading import load_model, locate_clip
from parbench.models.text import load_clip
from parbench.models.towers import tower_difference

SEVEN = ("model=llava-1.5-7b", "model.dtype=float32")
RUN = ("controls=[]", "limit=2", "results_dir=runs")


@pytest.fixture
def home(folder, monkeypatch) -> Path:
    """A hub cache that a test may damage."""
    monkeypatch.setenv("PARBENCH_CACHE", str(folder / "cache"))
    use_hub(monkeypatch, build_hub(folder / "home"))
    return folder / "home"


@pytest.fixture
def clip(folder) -> Path:
    """The published CLIP in a plain folder."""
    (folder / "clip").mkdir()
    for name, content in clip_files().items():
        (folder / "clip" / name).write_bytes(content)
    return folder / "clip"


def snapshot(home: Path, name: str) -> Path:
    (found,) = (home / "hub").glob(f"models--*{name}*/snapshots/*")
    return found


def text_space(path, adapter, revision=None):
    tower = adapter.model.model.vision_tower
    return load_clip(str(path), revision, tower, adapter.device, adapter.dtype, adapter.folder)


def test_the_pickled_clip_gives_what_the_safe_one_gives_and_is_converted_once(home, adapter, monkeypatch, caplog):
    texts = ["a photo of a red circle", "nothing"]
    safe, found = text_space(asset("llava-tiny/clip"), adapter), text_space(CLIP, adapter, CLIP_REVISION)
    torch.testing.assert_close(found.text(texts)[0], safe.text(texts)[0], rtol=0, atol=0)
    patches = torch.randn(1, 4, 192)
    torch.testing.assert_close(found.patches(patches), safe.patches(patches), rtol=0, atol=0)
    (kept,) = (home.parent / "cache" / "clip").glob("*.safetensors")
    with safe_open(kept, "pt") as file:
        assert all(name.startswith(clip_pickle.KEPT) for name in file.keys())  # noqa: SIM118
        assert file.metadata()["converted_from_sha256"] == kept.stem
    assert (snapshot(home, "clip") / "pytorch_model.bin").resolve().name == kept.stem
    monkeypatch.setattr(torch, "load", None)
    text_space(CLIP, adapter, CLIP_REVISION)
    kept.write_bytes(kept.read_bytes()[:999])
    with pytest.raises(ParbenchError, match="no code in it was executed"):
        text_space(CLIP, adapter, CLIP_REVISION)
    assert "warning" not in caplog.text


def test_a_cache_that_cannot_be_written_is_said_and_not_needed(home, adapter, monkeypatch, caplog):
    monkeypatch.setenv("PARBENCH_CACHE", "/proc/nowhere")
    text_space(CLIP, adapter, CLIP_REVISION)
    assert "PARBENCH_CACHE" in caplog.text


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_a_pickle_that_is_more_than_tensors_is_refused_and_not_executed(run, clip, folder):
    path = clip / "pytorch_model.bin"
    whole = torch.load(path, weights_only=True)
    words = ("eval", f"model.clip={clip}", "method=trim", "budget=64", *RUN)
    contents = {
        "a bomb": lambda: torch.save({**whole, "bomb": Bomb()}, path),
        "an old bomb": lambda: path.write_bytes(pickle.dumps({"bomb": Bomb()})),
        "cut off": lambda: path.write_bytes(path.read_bytes()[:5000]),
        "empty": lambda: path.write_bytes(b""),
    }
    for write in contents.values():
        torch.save(whole, path)
        write()
        assert "no code in it was executed" in refused(run, *words)
    assert not (folder / "executed").exists()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 20))
    assert "is compressed" in refused(run, *words)
    for change, said in (
        ({"text_projection.weight": None}, "missing tensors (text_projection.weight)"),
        ({"more": torch.ones(1)}, "surplus tensors (more)"),
        ({"text_projection.weight": torch.ones(2, 2)}, "misshapen tensors (text_projection.weight)"),
        ({"epoch": 3}, "something other than named tensors"),
    ):
        torch.save({name: value for name, value in {**whole, **change}.items() if value is not None}, path)
        assert said in refused(run, *words)


def test_another_pickle_is_refused(run, settings, clip, folder):
    (clip / "pytorch_model.bin").rename(clip / "model.pt")
    said = refused(run, "eval", f"model.clip={clip}", "method=trim", "budget=64", *RUN)
    assert "neither *.safetensors nor pytorch_model.bin" in said
    checkpoint = Path(shutil.copytree(settings["path"], folder / "checkpoint"))
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    assert "safetensors only" in refused(run, "eval", f"model.path={checkpoint}", "method=none", *RUN)


def test_a_clip_whose_vision_tower_is_another_is_told(run, clip, adapter, caplog):
    from transformers import CLIPConfig

    sizes = CLIPConfig.from_pretrained(clip)
    assert tower_difference(adapter.folder, clip, sizes) is None
    tensors = torch.load(clip / "pytorch_model.bin", weights_only=True)
    name = "vision_model.encoder.layers.3.mlp.fc1.weight"
    # As far as half precision goes, these are the same.
    tensors[name] = tensors[name] * (1 + 1e-4)
    torch.save(tensors, clip / "pytorch_model.bin")
    assert tower_difference(adapter.folder, clip, sizes) is None
    tensors[name][0, 0] += 0.5
    torch.save(tensors, clip / "pytorch_model.bin")
    for _ in range(2):
        found = tower_difference(adapter.folder, clip, sizes)
        assert (found.tensors, found.worst) == (1, name.removeprefix("vision_model."))
        assert found.largest == pytest.approx(0.5, abs=1e-3)
    text_space(clip, adapter)
    said = caplog.text
    assert "warning" in said
    assert name.removeprefix("vision_model.") in said
    config = json.loads((clip / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 96
    (clip / "config.json").write_text(json.dumps(config))
    assert "LLaVA's has width 192" in refused(run, "eval", f"model.clip={clip}", "method=trim", "budget=64", *RUN)
    assert "set model.clip" in refused(run, "eval", "model.clip=null", "method=trim", "budget=64", *RUN)


def test_a_half_copied_cache_names_the_file(run, home, folder):
    llava, clip = snapshot(home, "llava"), snapshot(home, "clip")
    shard = llava / "model-00002-of-00003.safetensors"
    words = ("eval", *SEVEN, "method=trim", "budget=64", *RUN)
    target, blob = os.readlink(shard), shard.resolve()
    content = blob.read_bytes()

    blob.unlink()
    assert "model-00002-of-00003.safetensors is a link to a missing file" in refused(run, *words)
    shard.unlink()
    incomplete = blob.with_suffix(".incomplete")
    incomplete.write_bytes(content[:100])
    said = refused(run, *words)
    assert "model-00002-of-00003.safetensors is missing" in said
    assert incomplete.name in said
    incomplete.unlink()
    shard.symlink_to(target)
    blob.write_bytes(content[:-100])
    assert f"it has {len(content) - 100} of {len(content)} bytes" in refused(run, *words)
    blob.write_bytes(content[:-4] + b"abcd")
    assert "is damaged, as its sha256 is not" in refused(run, *words)
    blob.write_bytes(content)
    (llava / "model.safetensors.index.json").resolve().write_text("{")
    assert "model.safetensors.index.json cannot be read" in refused(run, *words)
    shutil.rmtree(home)
    build_hub(home)
    (clip / "pytorch_model.bin").resolve().unlink()
    assert "pytorch_model.bin is a link to a missing file" in refused(run, *words)
    (clip / "pytorch_model.bin").unlink()
    assert "no *.safetensors or pytorch_model.bin is there" in refused(run, *words)
    shutil.rmtree(clip)
    assert "model.clip=/path/to/folder" in refused(run, *words)
    (llava / "tokenizer.json").resolve().unlink()
    assert "tokenizer.json" in refused(run, *words)
    assert not (folder / "runs").exists()


def test_a_copied_folder_is_checked_as_well(run, settings, folder):
    checkpoint = Path(shutil.copytree(settings["path"], folder / "checkpoint"))
    tensors = load_file(checkpoint / "model.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    said = refused(run, "eval", f"model.path={checkpoint}", "method=none", *RUN)
    assert "model-00001-of-00001.safetensors is missing" in said
    assert "is incomplete" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "paligemma"}, "PaliGemma"),
        (
            {"model_type": "qwen3_5"},
            "keep no keys and values of tokens), which parbench does not open: the nearest family that it opens is Qwen3-VL",
        ),
        ({"model_type": "gemma3n"}, "the nearest family that it opens is Gemma 3, such as model=gemma3-4b"),
        ({"model_type": "mllama"}, "the nearest family that it opens is LLaVA-NeXT"),
        ({"model_type": "qwen2_audio"}, "the nearest family that it opens is Qwen2-VL"),
        ({"model_type": "bert"}, "of model type bert, which parbench does not open: the nearest family that it opens is LLaVA-1.5"),
        (
            {"model_type": "llava", "mm_vision_tower": "openai/clip-vit-large-patch14-336"},
            "use llava-hf/llava-1.5-7b-hf",
        ),
        ({"model_type": "llava_llama", "hidden_size": 5120}, "use llava-hf/llava-1.5-13b-hf"),
        ({"vision_feature_layer": [-2, -5]}, "uses several layers"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "siglip_vision_model"),
        ({"text_config": {"model_type": "qwen2"}}, "qwen2"),
        (None, "is damaged"),
    ],
)
def test_other_kinds_of_models_are_told_apart_by_their_config(run, settings, folder, change, said):
    (folder / "checkpoint").mkdir()
    for path in Path(settings["path"]).iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copy(path, folder / "checkpoint")
    path = folder / "checkpoint" / "config.json"
    path.write_text("[]" if change is None else json.dumps({**json.loads(path.read_text()), **change}))
    assert said in refused(run, "eval", f"model.path={folder / 'checkpoint'}", "method=none", *RUN)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("liuhaotian/llava-v1.5-7b", "use llava-hf/llava-1.5-7b-hf"),
        ("liuhaotian/llava-v1.6-vicuna-7b", "use llava-hf/llava-v1.6-vicuna-7b-hf"),
        ("liuhaotian/LLaVA-Lightning-7B", "original repository's layout: the nearest family that it opens is LLaVA-1.5"),
        ("lmms-lab/llava-onevision-qwen2-7b-ov", "use llava-hf/llava-onevision-qwen2-7b-ov-hf"),
        ("OpenGVLab/InternVL3-8B", "use OpenGVLab/InternVL3-8B-hf"),
    ],
)
def test_and_by_their_name_before_anything_is_fetched(run, name, said):
    assert said in refused(run, "eval", f"model.path={name}", "model.revision=null", "method=none", *RUN)


def test_processor_files_in_either_layout(run, home, folder, monkeypatch):
    """The published one keeps the image processor in a file of its own; earlier revisions have no other."""
    use_hub(monkeypatch, build_hub(folder / "early", early=True))
    load_model(
        {
            "path": "llava-hf/llava-1.5-7b-hf",
            "revision": EARLY_REVISION,
            "device": "cpu",
            "dtype": "float32",
            "attention": "sdpa",
        }
    )
    use_hub(monkeypatch, home)
    (snapshot(home, "llava") / "preprocessor_config.json").unlink()
    said = refused(run, "eval", *SEVEN, "method=none", *RUN)
    assert "lacks processor files (preprocessor_config.json)" in said
    (snapshot(home, "llava") / "preprocessor_config.json").write_text("{}")
    (snapshot(home, "llava") / "tokenizer.json").unlink()
    (snapshot(home, "llava") / "tokenizer.json").write_text("{}")
    assert "the processor files in" in refused(run, "eval", *SEVEN, "model.prompt=template", "method=none", *RUN)


def test_large_files_are_read_once(folder, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(folder / "cache"))
    monkeypatch.setattr(fingerprints, "_LARGE", 10)
    path = folder / "model.safetensors"
    save_file({"a": torch.ones(100)}, path)
    first = fingerprints.file_sha256(path)
    read = []
    original = fingerprints._read
    monkeypatch.setattr(fingerprints, "_read", lambda path: read.append(path) or original(path))
    assert fingerprints.file_sha256(path) == first
    assert read == []
    save_file({"a": torch.zeros(100)}, path)
    assert fingerprints.file_sha256(path) != first
    (folder / "cache" / "fingerprints.json").write_text("{")
    assert fingerprints.file_sha256(path) != first
    assert len(read) == 2


@pytest.mark.model
def test_nothing_of_the_published_names_is_lost(home, monkeypatch):
    settings = {"path": "llava-hf/llava-1.5-7b-hf", "revision": LLAVA_REVISION, "device": "cpu", "dtype": "float32"}
    model = ModelAdapter.load({**settings, "name": "seven", "attention": "sdpa", "prompt": "vicuna_v1"}).model
    tiny = load_file(Path(asset("llava-tiny")) / "model.safetensors")
    ours = model.state_dict()
    for name, value in tiny.items():
        here = f"model.{name}".replace("language_model.model.", "language_model.")
        torch.testing.assert_close(ours[here], value.float(), rtol=0, atol=0)
    assert len(ours) == len(tiny) + 1
    assert locate_clip(CLIP, CLIP_REVISION).name == CLIP_REVISION
