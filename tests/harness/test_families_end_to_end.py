"""Evaluations of every family's miniature: images of many sizes, in both engines, resumed, with cached features, and odd images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from helpers import identity_of
from parbench.results.record import TIMING_FIELDS

SIZES = ((60, 60), (336, 336), (448, 336), (900, 300), (300, 900), (97, 211), (640, 480), (56, 112), (500, 61), (224, 224))
FAMILIES = (
    pytest.param("qwen2.5-vl-7b", marks=pytest.mark.smoke),
    pytest.param("llava-next-7b", marks=pytest.mark.smoke),
    "llava-onevision-0.5b",
    "qwen2-vl-7b",
    "qwen3-vl-4b",
    "internvl3-2b",
    "smolvlm2-2.2b",
    "gemma3-4b",
)

# Those whose tiles, windows or sizes differ most; engines and resumption know nothing of families.
CLOSELY = ("qwen2.5-vl-7b", "llava-next-7b", "smolvlm2-2.2b", "gemma3-4b")

pytestmark = pytest.mark.cli


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A data set of one's own: a circle on images of ten sizes, with a box around it."""
    folder, rows = tmp_path_factory.mktemp("drawn"), []
    for number, (width, height) in enumerate(SIZES):
        image = Image.new("RGB", (width, height), "white")
        box = [width // 5, height // 5, width // 5 + max(8, width // 3), height // 5 + max(8, height // 3)]
        ImageDraw.Draw(image).ellipse(box, fill=("red", "blue", "green")[number % 3])
        image.save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "question": "What colour is the circle?", "answer": "red", "boxes": [box]})
    return written_rows(folder, rows)


def written_rows(folder: Path, rows: list[dict]) -> Path:
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "mine.jsonl"


def words(checkpoint, name: str, data: Path, *more: str) -> list[str]:
    path = [] if any(word.startswith("model.path=") for word in more) else [f"model.path={checkpoint(name)}"]
    model = [f"model={name}", *path, "model.dtype=float32", "model.device=cpu"]
    return ["eval", *model, "dataset=local", f"dataset.path={data}", "engine.batch_size=8", "controls=[]", *more]


def found(folder: Path, method: str = "divprune") -> tuple[dict, list[dict]]:
    """Metrics and lines, timing aside, of the one run of a method."""
    (path,) = (path.parent for path in folder.glob("*/samples.jsonl") if identity_of(path.parent)["method"]["name"] == method)
    lines = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    plain = [{key: value for key, value in line.items() if key not in TIMING_FIELDS} for line in lines]
    return json.loads((path / "metrics.json").read_text()), plain


@pytest.mark.parametrize("name", FAMILIES)
def test_an_evaluation_of_images_of_many_sizes(run, checkpoint, drawn, folder, name):
    shared = words(checkpoint, name, drawn, "method=divprune", "budget=0.222", "results_dir=shared")
    code, out, err = run(*shared)
    assert code == 0, err
    assert "divprune @" in out
    assert "TFLOP" in out
    assert ("0.222 of " in out) == (name != "gemma3-4b")
    identities = [identity_of(path.parent) for path in (folder / "shared").glob("*/samples.jsonl")]
    assert {one["within"] for one in identities} == {"image"}
    # Both methods: ``none`` says before_projector in its YAML.
    assert {one["method"]["place"] for one in identities} == {"after_projector"}
    assert all(len(one["processor"]) > 1 for one in identities)
    metrics, lines = found(folder / "shared")
    assert metrics["failures"] == 0
    assert len(lines) == len(SIZES)
    whole, _ = found(folder / "shared", "none")
    assert whole["compression"] == 0
    for line in lines:
        own = line["own_tokens"][0] if name != "gemma3-4b" else metrics["patches"]
        assert line["tokens_kept"] == max(1, round(0.222 * own))
        assert int(line["kept"][0], 16).bit_count() == line["tokens_kept"]
        assert int(line["kept"][0], 16) < 2**own
        assert line["flops"]["vision"] > 0
        assert line["flops"]["projector"] > 0
    if name != "gemma3-4b":
        shares = [line["tokens_kept"] / line["own_tokens"][0] for line in lines]
        assert metrics["compression"] == pytest.approx(1 - sum(shares) / len(shares))
        assert len({line["own_tokens"][0] for line in lines}) > 1
        assert metrics["patches"] is None
        assert metrics["asked"] == pytest.approx(metrics["tokens_kept"]["mean"])

    if name not in CLOSELY:
        return
    # Whatever was shared, the kept tokens are those of each sample alone; answers of random weights may differ by rounding.
    code, _, err = run(*words(checkpoint, name, drawn, "method=divprune", "budget=0.222", "results_dir=exact", "engine=exact"))
    assert code == 0, err
    _, alone = found(folder / "exact")
    same = [
        one["kept"] == two["kept"] and one["flops"]["vision"] == two["flops"]["vision"]
        for one, two in zip(lines, alone, strict=True)
    ]
    assert all(same)

    # A run that is cut off goes on, with features from the disk, as if nothing had happened.
    cached = [*shared[:-1], "results_dir=cached", "engine.cache_dir=features"]
    assert run(*cached)[0] == 0
    (path,) = (
        path for path in (folder / "cached").glob("*/samples.jsonl") if identity_of(path.parent)["method"]["name"] == "divprune"
    )
    path.with_name("metrics.json").unlink()
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    code, _, err = run(*cached)
    assert code == 0, err
    assert found(folder / "cached")[1] == lines


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """Images in other modes and shapes than photographs have."""
    folder = tmp_path_factory.mktemp("odd")
    plain = Image.new("RGB", (90, 60), "white")
    ImageDraw.Draw(plain).ellipse((20, 10, 50, 40), fill="red")
    turned = Image.Exif()
    turned[274] = 6
    plain.convert("L").save(folder / "grey.png")
    plain.convert("RGBA").save(folder / "rgba.png")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    Image.new("I;16", (90, 60), 30000).save(folder / "deep.png")
    plain.save(folder / "turned.jpg", exif=turned)
    plain.save(folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", (90, 60), "blue")])
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (10_000, 20), "red").save(folder / "strip.png")
    names = sorted(path.name for path in folder.iterdir())
    rows = [{"image": name, "question": f"What is in {name}?", "answer": "red"} for name in names]
    return written_rows(folder, rows)


@pytest.mark.parametrize("name", FAMILIES)
def test_odd_images_are_answered_or_fail_in_one_sentence(run, checkpoint, odd, folder, name):
    code, _, err = run(*words(checkpoint, name, odd, "method=none", "results_dir=runs"))
    assert code == 0, err
    _, lines = found(folder / "runs", "none")
    said = {line["question"].split()[3].rstrip("?"): line["error"] for line in lines}
    for name_of_image in ("grey.png", "rgba.png", "cmyk.jpg", "deep.png", "turned.jpg", "moving.gif"):
        assert said[name_of_image] is None
    for error in filter(None, said.values()):
        assert "Error:" not in error, error
        assert "\n" not in error, error


def shortened(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint whose context has 320 tokens."""
    copy = Path(shutil.copytree(checkpoint, folder / "short"))
    config = (copy / "config.json").read_text()
    assert "max_position_embeddings" in config
    (copy / "config.json").write_text(re.sub(r'("max_position_embeddings": )\d+', r"\g<1>320", config))
    return copy


@pytest.mark.parametrize("name", FAMILIES)
def test_more_images_than_the_context_holds_are_a_failed_sample(run, checkpoint, odd, folder, name):
    few = {"image": "grey.png", "question": "What is this?", "answer": "red"}
    data = odd.with_name("many.jsonl")
    data.write_text("\n".join(map(json.dumps, [{**few, "image": ["grey.png"] * 80}, few])), encoding="utf-8")
    short = shortened(checkpoint(name), folder)
    code, _, err = run(*words(checkpoint, name, data, "method=none", "results_dir=runs", f"model.path={short}"))
    assert code == 0, err
    many, one = found(folder / "runs", "none")[1]
    assert "context" in many["error"]
    assert one["error"] is None
