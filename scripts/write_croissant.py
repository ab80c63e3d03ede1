"""Writes the descriptions of ``scenes`` and ``scenes-video`` in Croissant 1.0 (https://mlcommons.org/croissant).

    python scripts/write_croissant.py

They are ``croissant.json`` in ``src/parbench/scenes`` and in ``src/parbench/scenes/video``. ``mlcroissant validate --jsonld FILE``
checks one. If a file is copied to the folder of the built splits, which ``parbench doctor`` prints, mlcroissant can also read the
records.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parbench.scenes.questions import SKILLS
from parbench.scenes.splits import VIDEO_TASK, load_split, recorded_fingerprints, splits_of
from parbench.scenes.video.questions import SKILLS as VIDEO_SKILLS

ROOT = Path(__file__).parents[1]
_SCENES = ROOT / "src" / "parbench" / "scenes"


@dataclass(frozen=True)
class Described:
    """A data set to be described.

    Attributes:
        name: Its name in parbench.
        page: The file of its description.
        names: Its splits, whose questions are asked one by one.
        skills: What its questions ask for.
        said: What it is, as sentences.
        trained: What is said of training.
        key: What a file of its images shows.
        size: How large it is.
        detail: What the column ``detail`` holds.
        boxes: What the column ``boxes`` holds.
        clips: Whether its images are the film strips of clips.
    """

    name: str
    page: Path
    names: tuple[str, ...]
    skills: tuple[str, ...]
    said: tuple[str, ...]
    trained: str
    key: str
    size: str
    detail: str
    boxes: str
    clips: bool = False


STILLS = Described(
    name="scenes",
    page=_SCENES / "croissant.json",
    names=tuple(splits_of("scenes")),
    skills=SKILLS,
    said=(
        "Visual question answering on generated images with known evidence:",
        "flat shapes and signs on textured backgrounds, 336 x 336 pixels.",
        "Every question has the boxes of the objects that it needs.",
        "It measures what visual-token reduction loses; it says nothing about photographs.",
    ),
    trained="llava-tiny was trained on images of seeds below 1,000,000,000, the train split's among them.",
    key="image",
    size="The picture, 336 x 336 pixels in RGB.",
    detail="The kind of a question within its skill, such as why the answer to existence is no.",
    boxes="Boxes of the objects that the question needs, each (x0, y0, x1, y1) in pixels, with x1 and y1 exclusive; "
    "empty for an absent object.",
)
CLIPS = Described(
    name="scenes-video",
    page=_SCENES / "video" / "croissant.json",
    names=tuple(splits_of(VIDEO_TASK).values()),
    skills=VIDEO_SKILLS,
    said=(
        "Question answering about generated clips with known evidence:",
        "flat shapes that move, appear, vanish, blink or change colour on textured backgrounds, 8 frames of 168 x 168 pixels.",
        "Every question has the boxes that show its answer, each with its frame.",
        "The middle frame alone says nothing about any answer.",
        "It measures what visual-token reduction loses; it says nothing about filmed videos.",
    ),
    trained="Training on clips uses seeds from 1,000,000,000 to 2,000,000,000, the train split's among them.",
    key="clip",
    size="The frames side by side, 1344 x 168 pixels in RGB.",
    detail="The kind of a question within its skill, such as whether a colour changes.",
    boxes="Boxes that show the answer, each (x0, y0, x1, y1) in pixels of its frame, with x1 and y1 exclusive.",
    clips=True,
)
DESCRIBED = (STILLS, CLIPS)
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


def _texts(of: Described) -> dict[str, str]:
    return {
        "question_id": "The question, SPLIT-NUMBER.",
        "image_id": f"Its {of.key}, SPLIT-NUMBER; several questions share one.",
        "question": "The question as it is asked.",
        "answer": "The only correct answer.",
        "skill": f"What the question asks for: {', '.join(of.skills)}.",
        "detail": of.detail,
    }


def croissant(of: Described = STILLS) -> str:
    """The description of a data set as JSON-LD."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    home = about["urls"]["Repository"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    found = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": of.name,
        "description": _description(of),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "url": home,
        "version": about["version"],
        "datePublished": citation["date-released"].isoformat(),
        "creator": {"@type": "sc:Organization", "name": about["authors"][0]["name"], "url": home},
        "citeAs": f"{about['authors'][0]['name']}: parbench, version {about['version']}, {home}",
        "isLiveDataset": False,
        "distribution": [
            _files(of, "question-files", "application/x-parquet", "questions.parquet"),
            _files(of, "image-files", "image/png", "images/*.png"),
        ],
        "recordSet": [_splits(of), _images(of), _questions(of)],
    }
    return json.dumps(found, indent=2) + "\n"


def _description(of: Described) -> str:
    sizes = [f"{name} {len(load_split(name)[0])} {of.key}s and {len(load_split(name)[1])} questions" for name in of.names]
    prints = [f"{name} {recorded_fingerprints()[name]}" for name in of.names]
    return " ".join(
        [
            *of.said,
            "Nothing was collected from people, and nothing is downloaded: parbench draws the splits from fixed seeds on first use",
            f"(parbench.scenes.load_scenes, or parbench eval dataset={of.name}) into its cache folder,",
            "which parbench doctor names, and compares them with recorded fingerprints, sha256 over rows and pixels.",
            "Answers are balanced within a skill and within a wording.",
            f"Splits: {'; '.join(sizes)}.",
            of.trained,
            "val is for tuning, test for reporting.",
            f"Fingerprints: {'; '.join(prints)}.",
        ]
    )


def _files(of: Described, name: str, form: str, inside: str) -> dict[str, Any]:
    """The files of all splits. The name of a split's folder is the name of the split and the beginning of its fingerprint."""
    folders = [f"{split}-{recorded_fingerprints()[split][:12]}" for split in of.names]
    includes = [f"{folder}/{inside}" for folder in folders]
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": form, "includes": includes}


def _splits(of: Described) -> dict[str, Any]:
    name = {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [name],
        "data": [{"splits/name": split} for split in of.names],
    }


def _images(of: Described) -> dict[str, Any]:
    def field(name: str, said: str, kind: str, extract: str) -> dict[str, Any]:
        source = {"fileSet": {"@id": "image-files"}, "extract": {"fileProperty": extract}}
        about = {"@type": "cr:Field", "@id": f"images/{name}", "name": name, "description": said}
        return {**about, "dataType": kind, "source": source}

    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": f"One record per {of.key}.",
        "key": {"@id": "images/file"},
        "field": [
            field("file", "Its file's name, the question's field image.", "sc:Text", "filename"),
            field("image", of.size, "sc:ImageObject", "content"),
        ],
    }


def _questions(of: Described) -> dict[str, Any]:
    fields = [_field(name, said, {"column": name}) for name, said in _texts(of).items()]
    split = _field("split", "The split.", {"fileProperty": "fullpath"}, transform={"regex": f"^({'|'.join(of.names)})-"})
    split["references"] = {"field": {"@id": "splits/name"}}
    image = _field("image", f"File name of the {of.key}'s picture." if of.clips else "File name of the image.", {"column": "image"})
    boxes = _field("boxes", of.boxes, {"column": "boxes"})
    boxes["repeated"] = True
    boxes["dataType"] = ["sc:Integer", "cr:BoundingBox"]
    if of.clips:
        frames = _field("frames", "The number of the frame of each box, from 0.", {"column": "frames"})
        frames |= {"repeated": True, "dataType": "sc:Integer"}
        fields.append(frames)
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
    for one in DESCRIBED:
        one.page.write_text(croissant(one), encoding="utf-8")
