"""The Croissant description of ``scenes`` is what the generator makes."""

from __future__ import annotations

import json

import pytest

from parbench.scenes.splits import data_folder, recorded_fingerprints, rows
from write_croissant import NAMES, PAGE, croissant

FOUND = json.loads(PAGE.read_text())


def test_the_page_is_not_stale():
    assert PAGE.read_text() == croissant(), "run: python scripts/write_croissant.py"


def test_its_fields_are_the_columns_of_the_data():
    (questions,) = (one for one in FOUND["recordSet"] if one["name"] == "questions")
    columns = {one["source"]["extract"].get("column") for one in questions["field"]} - {None}
    assert columns == set(next(rows("val")))


def test_its_files_are_there():
    folder = data_folder("val")
    for files in FOUND["distribution"]:
        assert len(files["includes"]) == len(NAMES)
        (mine,) = (pattern for pattern in files["includes"] if pattern.startswith("val-"))
        assert list(folder.parent.glob(mine))


def test_every_split_is_described():
    for name in NAMES:
        assert f"{name} {recorded_fingerprints()[name]}" in FOUND["description"]


def test_mlcroissant_finds_nothing():
    mlcroissant = pytest.importorskip("mlcroissant", exc_type=ImportError)
    metadata = mlcroissant.Dataset(jsonld=str(PAGE)).metadata
    assert not metadata.issues.errors
    assert not metadata.issues.warnings
