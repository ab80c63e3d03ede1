"""Images of a data set's rows: told apart by content, read strictly, and failing one by one."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from small_data import lines, png, pope, scored


def asked(number: int, image: bytes | None, source: str, **more) -> dict:
    """A row in the schema of the hub's POPE."""
    return {
        "question_id": str(number),
        "question": "Is there a red circle in the image?",
        "answer": "yes",
        "image_source": source,
        "image": None if image is None else {"bytes": image, "path": None},
        **more,
    }


def noise(seed: int, kind: str = "JPEG", **settings) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind, **settings)
    return stream.getvalue()


def prepared(path):
    from omegaconf import OmegaConf

    from parbench.config import compose_config
    from parbench.harness.datasets import PreparedDataset

    config = compose_config(["dataset=pope", f"dataset.path={path}"])
    return PreparedDataset(OmegaConf.to_container(config.dataset, resolve=True))


def test_rows_with_one_key_get_each_its_own_picture(run, folder):
    # One name for two pictures, and two names for one picture.
    rows = [asked(0, noise(1), "a"), asked(1, noise(2), "a"), asked(2, noise(2), "b"), asked(3, noise(1), "a (2)")]
    data = pope(folder / "pope", rows)
    words = ("dataset=pope", f"dataset.path={data}", "method=cls-topk", "budget=16", "controls=[]")
    for engine in ("shared", "exact"):
        code, _, err = run("eval", *words, f"engine={engine}", f"results_dir={engine}")
        assert code == 0, err
    found, apart = (sorted(lines(folder / name)["cls-topk"], key=lambda row: row["id"]) for name in ("shared", "exact"))
    assert [row["kept"] for row in found] == [row["kept"] for row in apart]
    assert found[0]["kept"] == found[3]["kept"] != found[1]["kept"] == found[2]["kept"]
    # Intervals resample pictures.
    assert [row["image_id"] for row in found] == ["a", "a (2)", "a (2)", "a"]


def test_names_follow_the_rows_before_alone(folder):
    """So that neither a limit nor a shard changes them; a row without an image is named by its key."""
    rows = [asked(0, noise(1), "x"), asked(1, None, "x"), asked(2, noise(2), "x"), asked(3, None, "y")]
    dataset = prepared(pope(folder / "pope", rows))
    assert dataset.image_key(3) == "y"
    assert [dataset.image_key(number) for number in range(3)] == ["x", "x (2)", "x (3)"]


def test_what_a_task_draws_from_the_row_is_part_of_what_is_shown(folder):
    rows = [asked(number, noise(1), "a", category=str(number)) for number in range(2)]
    data = pope(folder / "pope", rows)
    plain = prepared(data)
    assert plain.group(0) == plain.group(1)
    turned, visual = prepared(data), plain.task.config.doc_to_visual
    turned.task.config.doc_to_visual = lambda doc: [visual(doc)[0].rotate(90 * int(doc["category"]))]
    assert turned.group(0) != turned.group(1)
    assert turned.image_key(0) == turned.image_key(1)


def broken_png() -> bytes:
    whole = bytearray(png("red"))
    whole[40:50] = b"0123456789"
    return bytes(whole)


DAMAGED = {
    "JPEG cut off": noise(3, quality=95)[:900],
    "PNG cut off": noise(3, "PNG")[:900],
    "WebP cut off": noise(3, "WEBP", lossless=True)[:900],
    "TIFF cut off": noise(3, "TIFF")[:900],
    "zero bytes": b"",
    "no image": b"not an image",
    "a broken chunk": broken_png(),
}


def test_damaged_images_fail_and_the_others_go_on(run, folder):
    rows = [asked(number, image, kind) for number, (kind, image) in enumerate(DAMAGED.items())]
    rows += [asked(len(rows), noise(4, quality=95), "whole"), asked(len(rows) + 1, None, "none at all")]
    # A picture that the processor would enlarge to more than a thousand million pixels.
    stream = io.BytesIO()
    Image.new("RGB", (1, 12_000), "red").save(stream, "PNG")
    rows.append(asked(len(rows), stream.getvalue(), "a line"))
    found, written = scored(run, folder, "dataset=pope", f"dataset.path={pope(folder / 'pope', rows)}")
    assert found["failures"] == len(rows) - 1
    assert found["n"] == len(rows)
    errors = {row["image_id"]: row["error"] for row in written}
    assert errors.pop("whole") is None
    assert "336 x 4032000" in errors.pop("a line")
    assert all("cannot be read" in error or "no image where" in error for error in errors.values())
    assert "row 0" in errors["JPEG cut off"]


def test_memory_that_runs_out_for_one_image_fails_that_sample(adapter, scenes, monkeypatch):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from helpers import reducer, sample
    from parbench.engine.engine import Engine

    original = CLIPImageProcessorPil.__call__

    def full(self, images, **given):
        if any(image.size == (77, 77) for image in images):
            raise MemoryError
        return original(self, images=images, **given)

    monkeypatch.setattr(CLIPImageProcessorPil, "__call__", full)
    samples = [sample(adapter, scenes[number], number) for number in range(2)]
    samples.append(sample(adapter, scenes[2], 2, group="large", load=lambda: [Image.new("RGB", (77, 77))]))
    for share in (True, False):
        answers = Engine(adapter, reducer("none"), share=share).answer(samples)
        assert [answer.error is None for answer in answers] == [True, True, False]
        assert "77 x 77" in str(answers[2].error)


def grey_16(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def test_grey_of_sixteen_bits_is_scaled_and_alpha_dropped(folder):
    ramp = np.linspace(0, 65535, 256 * 4).reshape(4, 256).round()
    clear = io.BytesIO()
    Image.new("RGBA", (8, 8), (10, 200, 30, 0)).save(clear, "PNG")
    huge = io.BytesIO()
    Image.fromarray(np.full((8, 8), 70000, dtype=np.int32)).save(huge, "TIFF")
    images = [grey_16(ramp), clear.getvalue(), huge.getvalue()]
    dataset = prepared(pope(folder / "pope", [asked(number, image, str(number)) for number, image in enumerate(images)]))
    shown = np.asarray(dataset.visuals(0)[0])
    assert np.abs(shown[..., 0] - ramp / 257).max() <= 0.5
    assert np.asarray(dataset.visuals(1)[0])[0, 0].tolist() == [10, 200, 30]
    with pytest.raises(Exception, match="nothing says what is white"):
        dataset.visuals(2)


def test_a_changed_image_is_new_data_whatever_the_file_that_names_it(folder):
    """JSON lines, a JSON array, several images a row, parquet and arrow with names in place of bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = folder / "data"
    data.mkdir()
    rows = [{**asked(0, None, "a"), "image": "ä.png"}, {**asked(1, None, "b"), "image": ["ä.png", "b.png"]}]
    (data / "lines.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (data / "array.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    table = pa.table({"question": ["?"], "image": [{"bytes": None, "path": str(data / "b.png")}], "name": ["ä.png"]})
    pq.write_table(table, data / "table.parquet")
    with pa.ipc.new_stream(data / "table.arrow", table.schema) as stream:
        stream.write_table(table)

    def fingerprints(colours):
        for name, colour in zip(("ä.png", "b.png"), colours, strict=True):
            (data / name).write_bytes(png(colour))
        return [prepared(data / name).fingerprint for name in ("lines.jsonl", "array.json", "table.parquet", "table.arrow")]

    before = fingerprints(("red", "red"))
    assert fingerprints(("red", "red")) == before
    assert len({*before, *fingerprints(("blue", "red")), *fingerprints(("red", "blue"))}) == 12


def test_what_editors_and_archivers_leave_is_no_data(folder):
    from parbench.errors import ParbenchError

    (folder / ".hidden").mkdir()
    data = pope(folder / ".hidden" / "pope")
    before = prepared(data).fingerprint
    (file,) = data.glob("*.parquet")
    for name in (
        ".ipynb_checkpoints/test-checkpoint.parquet",
        "__MACOSX/test-0.parquet",
        "._test.parquet",
        ".test-1.parquet",
    ):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(file.read_bytes())
    assert prepared(data).fingerprint == before
    assert len(prepared(data).rows) == 6
    (data / "test.jsonl").write_text("{}")
    with pytest.raises(ParbenchError, match="several formats"):
        prepared(data)


def test_a_cache_that_cannot_be_written_names_hf_home(folder, monkeypatch):
    import datasets

    from parbench.errors import ParbenchError

    data = pope(folder / "pope")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/nobody/.cache/huggingface/datasets")
    with pytest.raises(ParbenchError, match="set HF_HOME to a folder that can"):
        _ = prepared(data).rows
