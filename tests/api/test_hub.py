"""The published LLaVA-1.5, loaded from the hub's cache by transformers or by parbench."""

from __future__ import annotations

import pytest
import torch

import parbench
from hub_miniature import CLIP, LLAVA, LLAVA_REVISION, build_hub, use_hub
from parbench.api.models import known_of
from parbench.errors import ParbenchError

pytestmark = pytest.mark.model


@pytest.fixture
def hub(folder, monkeypatch):
    """A hub cache in small, with the names of the published files."""
    monkeypatch.setenv("PARBENCH_CACHE", str(folder / "cache"))
    use_hub(monkeypatch, build_hub(folder / "home"))


def test_a_published_model_is_known_however_it_was_loaded(hub, scenes):
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    theirs = LlavaForConditionalGeneration.from_pretrained(LLAVA, dtype=torch.bfloat16)
    ours, processor = parbench.load_model("llava-1.5-7b", dtype="bfloat16", device="cpu")
    named, _ = parbench.load_model(LLAVA, dtype="bfloat16", device="cpu")
    row, found = scenes[0], []
    trim = parbench.method("trim", budget=64)
    for model, reader in ((theirs, AutoProcessor.from_pretrained(LLAVA, backend="pil")), (ours, processor), (named, processor)):
        known = known_of(model)
        assert (known.name, known.clip.path, known.geometry.patches) == ("llava-1.5-7b", CLIP, 576)
        assert known.folder.name == LLAVA_REVISION
        assert known.fingerprint == known_of(ours).fingerprint
        inputs = reader(images=row["image"], text=f"USER: <image>\n{row['question']} ASSISTANT:", return_tensors="pt")
        with parbench.reduce(model, reader, trim) as reduced:
            model.generate(**inputs, max_new_tokens=2)
        assert reduced.questions == [row["question"]]
        found.append(reduced.kept[0].indices.tolist())
    assert found[0] == found[1] == found[2]
    with pytest.raises(ParbenchError, match=r"run: parbench calibrate model=llava-1\.5-7b method=par target=64, or give"):
        parbench.method("par", budget=64, model=theirs)
