"""Writes ``src/parbench/scenes/croissant.json``, the description of ``scenes`` in Croissant 1.0 (https://mlcommons.org/croissant).

    python scripts/write_croissant.py

``mlcroissant validate --jsonld src/parbench/scenes/croissant.json`` checks it. If the file is copied to the folder of the built
splits, which ``parbench doctor`` prints, mlcroissant can also read the records.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

from parbench.scenes.questions import SKILLS
from parbench.scenes.splits import load_split, recorded_fingerprints, splits_of

ROOT = Path(__file__).parents[1]
# The splits whose questions are asked one by one.
NAMES = tuple(splits_of("scenes"))
PAGE = ROOT / "src" / "parbench" / "scenes" / "croissant.json"
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
FIELDS = {
    "question_id": "The question, SPLIT-NUMBER.",
    "image_id": "Its image, SPLIT-NUMBER; several questions share one.",
    "question": "The question as it is asked.",
    "answer": "The only correct answer.",
    "skill": f"What the question asks for: {', '.join(SKILLS)}.",
    "detail": "The kind of a question within its skill, such as why the answer to existence is no.",
}


def croissant() -> str:
    """The description as JSON-LD."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    home = about["urls"]["Repository"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    found = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "scenes",
        "description": _description(),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "url": home,
        "version": about["version"],
        "datePublished": citation["date-released"].isoformat(),
        "creator": {"@type": "sc:Organization", "name": about["authors"][0]["name"], "url": home},
        "citeAs": f"{about['authors'][0]['name']}: parbench, version {about['version']}, {home}",
        "isLiveDataset": False,
        "distribution": [
            _files("question-files", "application/x-parquet", "questions.parquet"),
            _files("image-files", "image/png", "images/*.png"),
        ],
        "recordSet": [_splits(), _images(), _questions()],
    }
    return json.dumps(found, indent=2) + "\n"


def _description() -> str:
    sizes = [f"{name} {len(load_split(name)[0])} images and {len(load_split(name)[1])} questions" for name in NAMES]
    prints = [f"{name} {recorded_fingerprints()[name]}" for name in NAMES]
    return " ".join(
        [
            "Visual question answering on generated images with known evidence:",
            "flat shapes and signs on textured backgrounds, 336 x 336 pixels.",
            "Every question has the boxes of the objects that it needs.",
            "It measures what visual-token reduction loses; it says nothing about photographs.",
            "Nothing was collected from people, and nothing is downloaded: parbench draws the splits from fixed seeds on first use",
            "(parbench.scenes.load_scenes, or parbench eval dataset=scenes) into its cache folder, which parbench doctor names,",
            "and compares them with recorded fingerprints, sha256 over rows and pixels.",
            "Answers are balanced within a skill and within a wording.",
            f"Splits: {'; '.join(sizes)}.",
            "llava-tiny was trained on images of seeds below 1,000,000,000, the train split's among them.",
            "val is for tuning, test for reporting.",
            f"Fingerprints: {'; '.join(prints)}.",
        ]
    )


def _files(name: str, form: str, inside: str) -> dict[str, Any]:
    """The files of all splits. The name of a split's folder is the name of the split and the beginning of its fingerprint."""
    folders = [f"{split}-{recorded_fingerprints()[split][:12]}" for split in NAMES]
    includes = [f"{folder}/{inside}" for folder in folders]
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": form, "includes": includes}


def _splits() -> dict[str, Any]:
    name = {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [name],
        "data": [{"splits/name": split} for split in NAMES],
    }


def _images() -> dict[str, Any]:
    def field(name: str, said: str, kind: str, extract: str) -> dict[str, Any]:
        source = {"fileSet": {"@id": "image-files"}, "extract": {"fileProperty": extract}}
        about = {"@type": "cr:Field", "@id": f"images/{name}", "name": name, "description": said}
        return {**about, "dataType": kind, "source": source}

    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "One record per image.",
        "key": {"@id": "images/file"},
        "field": [
            field("file", "Its file's name, the question's field image.", "sc:Text", "filename"),
            field("image", "The picture, 336 x 336 pixels in RGB.", "sc:ImageObject", "content"),
        ],
    }


def _questions() -> dict[str, Any]:
    fields = [_field(name, said, {"column": name}) for name, said in FIELDS.items()]
    split = _field("split", "The split.", {"fileProperty": "fullpath"}, transform={"regex": "^(train|val|test)-"})
    split["references"] = {"field": {"@id": "splits/name"}}
    image = _field("image", "File name of the image.", {"column": "image"})
    boxes = _field(
        "boxes",
        "Boxes of the objects that the question needs, each (x0, y0, x1, y1) in pixels, with x1 and y1 exclusive; "
        "empty for an absent object.",
        {"column": "boxes"},
    )
    boxes["repeated"] = True
    boxes["dataType"] = ["sc:Integer", "cr:BoundingBox"]
    return {
        "@type": "cr:RecordSet",
        "@id": "questions",
        "name": "questions",
        "description": "One record per question.",
        "key": {"@id": "questions/question_id"},
        "field": [split, image, *fields, boxes],
    }


def _field(name: str, said: str, extract: dict[str, str], **more: Any) -> dict[str, Any]:
    source = {"fileSet": {"@id": "question-files"}, "extract": extract, **more}
    about = {"@type": "cr:Field", "@id": f"questions/{name}", "name": name, "description": said}
    return {**about, "dataType": "sc:Text", "source": source}


if __name__ == "__main__":
    PAGE.write_text(croissant(), encoding="utf-8")
