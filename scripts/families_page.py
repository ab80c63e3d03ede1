"""Generates ``docs/families.md`` from the classes of families and methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parbench.config import build_reducer, compose_config, names
from parbench.models.configs import config_of
from parbench.models.families import FAMILIES, Family
from parbench.models.geometry import Geometry, geometry_of
from parbench.models.offers import OFFERS
from parbench.reducers import Reducer
from parbench.reducers.needs import missing, refusal, substitute

_INTRODUCTION = """# Families of models

Generated from the classes by `python scripts/write_families.py`; a test fails if this page is out of date.

One core serves all families. Hugging Face's processor expands the prompt, Hugging Face's model gives positions and visual tokens,
and a method chooses which of them go through the LLM. For every family, tests on small random models show:

* With all tokens kept, before the LLM or through a cut inside it, logits and answers are those of `model.generate` bit for bit:
  one and several images a prompt, prompts of different lengths in a batch.
* A subset of tokens gives Hugging Face's own forward pass on the pruned prompt bit for bit.
* A cut inside the LLM equals masking the dropped tokens (not tested for Gemma 3, whose masks go both ways). Decoding with a cache
  equals decoding without. Sharing an image between questions, or running a sample alone, changes nothing.
* The token that a painted spot changes most has a box, in pixels of the image, around the spot. (LLaVA-OneVision scales large
  grids down, which spreads a spot over neighbours; there one spot of twelve may miss.)
* Every method of the table below delivers its budget for each image, of tokens that come from it, and keeping everything changes
  nothing.

Real checkpoints of these sizes were not run: no machine with them was available. `tests/models/test_families.py` and
`tests/reducers/test_families.py` are the tests.

## What they are
"""

# What no class says: the tower and what is special, by title.
_FACTS = {
    "LLaVA-1.5": ("576", "CLIP, with CLS", "1 axis", "the centre square of an image alone is seen"),
    "LLaVA-NeXT": (
        "by size: a base image, then crops",
        "CLIP, with CLS, trained further",
        "1 axis",
        "a newline ends each row of tokens",
    ),
    "LLaVA-NeXT-Video": ("as LLaVA-NeXT", "CLIP, with CLS", "1 axis", "frames of a video are pooled"),
    "LLaVA-OneVision": (
        "by size: a base image, then crops, scaled down when many",
        "SigLIP, no CLS",
        "1 axis",
        "newlines; an image beside others is not cropped",
    ),
    "Qwen2-VL": ("by size, in squares of 28 pixels", "own, no CLS", "3 axes", "patches are merged 2 x 2"),
    "Qwen2.5-VL": ("by size, in squares of 28 pixels", "own, no CLS, windows", "3 axes", "patches are merged 2 x 2"),
    "Qwen3-VL": (
        "by size, in squares of 32 pixels",
        "own, no CLS",
        "3 axes",
        "inner features are added in the first layers",
    ),
    "InternVL": ("256 for each tile and the thumbnail", "InternViT, with CLS", "1 axis", "patches are joined 2 x 2"),
    "Idefics3 / SmolVLM": ("by size, for each tile and the whole image", "SigLIP, no CLS", "1 axis", "text between tiles stays"),
    "Gemma 3": ("256", "SigLIP, no CLS", "1 axis", "tokens of an image see each other both ways; some layers see a window"),
}

_MATRIX = """
## Which method runs where

**yes**: as it is. **A setting**: what the method needs is missing, and it runs with that setting of `method`. Tables name the
substitutes `attention=received` and `space=llm`: `visionzip @64 (received)`, `trim @64 (llm)`. **no**: refused in one sentence
before anything is computed, for the reason below the table.
"""

_READING = """
Where methods act and what they get differs from LLaVA-1.5 in these points:

* **Behind the connector.** In all families but LLaVA-1.5, methods between tower and LLM act on tokens in the LLM's space,
  whatever `method.place` says: the connector joins patches there. The record of a run says `after_projector`. Methods that compare
  or merge features (VisionZip, PruMerge, SCOPE and others) do so behind the connector, and VisionZip and PruneSID send no CLS.
* **`method.attention=received`.** In towers without CLS, a token is ranked by the attention that it receives, mean over heads and
  queries, in the last block that sees the whole image. Where the connector joins patches, it is the mean over those of a token.
* **`method.space=llm`.** Without a CLIP text tower that fits, relevance compares projected tokens with the LLM's input embeddings
  of the question. This is an extension of ours.
* **`method.within`**: `image` reduces all tokens of an image at once, `part` those of each crop or tile with its share of the
  budget, in proportion to its tokens. The default is that of the release, `image` for most methods. It is `part` for {by_part},
  and for `uniform`, `pool`, `lftr`, `hiprune` and the first stage of `vscan`, which need a grid.
* **`method.separators`**: newlines are no patches. They are neither scored nor counted. `keep` sends them all, `drop` none once
  an image is reduced. The default is `keep`, and `drop` for {drops}, as in its release.
* **Budgets** are for an image. A ratio such as 0.222 is of the image's own tokens. An image with fewer tokens than the budget
  keeps all. Inside the LLM use a ratio: how few tokens a cut can leave on average depends on the size of the image.
* **Attention inside the LLM.** FastV, SparseVLM and PyramidDrop read the attention of a layer. In Gemma 3 most layers see only a
  window. Before the first question of a run its prompts are measured, and one longer than the window of a layer that is read is
  refused in a sentence that names the next layers that see everything: `method.layer=6` for FastV on `gemma3-4b`. Later turns of
  conversations hold answers, so there such a prompt is a failed sample.
* **Positions** of kept tokens stay as they were in models with three axes; in the others they are renumbered where the method
  says so.

## Limits

* Methods for videos compare the frames of a video, and refuse still images and families without videos. Frames are parts of one
  input, so all other methods run on videos too: on all frames at once, or frame by frame with `method.within=part`.
* Merging inside the tower ({tower}) would need whole groups of patches for the connector, so it is refused outside LLaVA-1.5.
* `downsample` changes the pixels that LLaVA-1.5's tower gets. In other families a smaller image is a matter of the processor
  (`model.max_pixels` of the Qwen models).
* A checkpoint of a family that parbench does not know opens as *generic*, with a warning, if its class works like those of the
  others. Its tokens have no places in the image and its tower is not read, so methods that need a grid or the tower's attention
  are refused.
"""


def families_page() -> str:
    """The text of ``docs/families.md``."""
    methods = {name: build_reducer(compose_config([f"method={name}"]).method) for name in names("method", outside=False)}
    parts = [_INTRODUCTION, *_facts(), _MATRIX, *_matrix(methods)]
    by_part = [f"`{name}`" for name, method in methods.items() if getattr(method, "by_part", False) and "grid" not in method.needs]
    drops = [f"`{name}`" for name, method in methods.items() if getattr(method, "drops_separators", False)]
    tower = [f"`{name}`" for name, method in methods.items() if method.site == "tower"]
    parts.append(_READING.format(by_part=", ".join(by_part), drops=", ".join(drops), tower=", ".join(tower)))
    return "\n".join(parts)


def _facts() -> list[str]:
    models = _models()
    head = ("family", "`model_type`", "`model=`", "visual tokens of an image", "vision tower", "positions", "special")
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for family in FAMILIES:
        said = " | ".join(_FACTS[family.title])
        kinds, those = (", ".join(f"`{name}`" for name in found) for found in (family.model_types, models.get(family.title, ())))
        rows.append(f"| {family.title} | {kinds} | {those} | {said} |")
    return rows


def _models() -> Mapping[str, list[str]]:
    """The names of the models of each family in conf/model."""
    found: dict[str, list[str]] = {}
    for name in names("model", outside=False):
        settings: dict[str, Any] = dict(compose_config([f"model={name}"]).model)
        found.setdefault(geometry_of(config_of(settings)).family, []).append(name)
    return found


def _sizes(family: type[Family]) -> Geometry:
    """Sizes of a model of a family, whose numbers do not matter here."""
    known = _models().get(family.title)
    if known:
        settings: dict[str, Any] = dict(compose_config([f"model={known[0]}"]).model)
        return geometry_of(config_of(settings))
    return Geometry(0, 0, 32, 24, 14, tokens=576, varies=family.varies, family=family.title, offers=family.offers)


def _matrix(methods: Mapping[str, Reducer]) -> list[str]:
    sizes = [_sizes(family) for family in FAMILIES]
    rows = [f"| method | {' | '.join(size.family for size in sizes)} |", f"|---{'|---' * len(sizes)}|"]
    reasons: dict[str, list[str]] = {}
    for name, method in methods.items():
        cells = [_cell(method, size) for size in sizes]
        rows.append(f"| [`{name}`](methods.md#{name}) | {' | '.join(cells)} |")
        for size, cell in zip(sizes, cells, strict=True):
            for need in missing(method, size) if cell == "no" else ():
                reasons.setdefault(need, []).append(name)
    rows += ["", "Refused, because the method needs:", ""]
    for need, those in reasons.items():
        rows.append(f"* {OFFERS[need]}: {', '.join(f'`{name}`' for name in dict.fromkeys(those))}.")
    return rows


def _cell(method: Reducer, size: Geometry) -> str:
    if refusal(method, size) is None:
        return "yes"
    fields = substitute(method, size)
    return ", ".join(f"`{name}={'null' if value is None else value}`" for name, value in fields.items()) or "no"
