"""The Croissant descriptions of ``scenes`` and ``scenes-video`` are what the generator makes."""

from __future__ import annotations

import json

import pytest

from parbench.scenes.splits import data_folder, recorded_fingerprints, rows
from write_croissant import DESCRIBED, croissant


@pytest.fixture(params=DESCRIBED, ids=lambda one: one.name)
def of(request):
    return request.param


@pytest.fixture
def found(of):
    return json.loads(of.page.read_text())


def test_the_page_is_not_stale(of):
    assert of.page.read_text() == croissant(of), "run: python scripts/write_croissant.py"


def test_its_fields_are_the_columns_of_the_data(of, found):
    (questions,) = (one for one in found["recordSet"] if one["name"] == "questions")
    columns = {one["source"]["extract"].get("column") for one in questions["field"]} - {None}
    assert columns == set(next(rows(of.names[1])))


def test_its_files_are_there(of, found):
    folder = data_folder(of.names[1])
    for files in found["distribution"]:
        assert len(files["includes"]) == len(of.names)
        (mine,) = (pattern for pattern in files["includes"] if pattern.startswith(f"{of.names[1]}-"))
        assert list(folder.parent.glob(mine))


def test_every_split_is_described(of, found):
    for name in of.names:
        assert f"{name} {recorded_fingerprints()[name]}" in found["description"]


def test_mlcroissant_finds_nothing(of):
    mlcroissant = pytest.importorskip("mlcroissant", exc_type=ImportError)
    metadata = mlcroissant.Dataset(jsonld=str(of.page)).metadata
    assert not metadata.issues.errors
    assert not metadata.issues.warnings
