"""Where parbench keeps what it makes once."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from parbench.cache import cache_root


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """No place is named; temporary files go to ``tmp``."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for name in ("PARBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_folder_that_is_named_comes_first(monkeypatch, places):
    monkeypatch.setenv("HOME", str(places / "home"))
    assert cache_root() == places / "home" / ".cache" / "parbench"
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    assert cache_root() == places / "xdg" / "parbench"
    monkeypatch.setenv("PARBENCH_CACHE", str(places / "mine"))
    assert cache_root() == places / "mine"


def test_a_home_that_cannot_be_written_is_said_once_and_done_without(monkeypatch, places, caplog):
    # A file in the place of the home: nobody can make a folder below it, root included.
    (places / "file").write_text("")
    monkeypatch.setenv("HOME", str(places / "file"))
    with caplog.at_level(logging.WARNING):
        found = [cache_root(), cache_root()]
    assert found == [places / "tmp" / f"parbench-cache-{os.getuid()}"] * 2
    assert found[0].stat().st_mode & 0o777 == 0o700
    assert [record.message.count("set PARBENCH_CACHE") for record in caplog.records] == [1]


def test_a_folder_that_is_not_ones_own_is_not_used(monkeypatch, places):
    (places / "file").write_text("")
    (places / "elsewhere").mkdir()
    (places / "tmp" / f"parbench-cache-{os.getuid()}").symlink_to(places / "elsewhere")
    monkeypatch.setenv("HOME", str(places / "file" / "home"))
    found = cache_root()
    assert found.resolve().parent == places / "tmp"
    assert not found.is_symlink()


def test_a_user_without_a_home_has_a_cache(monkeypatch, places):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", nobody)
    assert cache_root().parent == places / "tmp"
