"""The browser that tests of the report click in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from browser import CHROMIUM, Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()
