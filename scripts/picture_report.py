"""Takes screenshots of a report for the documentation, in a headless Chromium.

parbench report results/reference/scenes results/reference/bench-llava-tiny-cpu.json
PYTHONPATH=tests/support python scripts/picture_report.py results/report.html docs/images
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from browser import Browser
from parbench.figures.files import with_palette

# A promise that waits until changes are drawn.
_DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass(frozen=True)
class Picture:
    """A screenshot of a section.

    Attributes:
        name: Name of its file, without suffix.
        section: Id of the element at the top of the window.
        view: Fragment of the URL, which contains the selection.
        height: Height of the window in pixels.
        width: Width of the window in pixels.
        pointed: CSS selector of the element with the focus; empty for none.
    """

    name: str
    section: str
    view: str = ""
    height: int = 640
    width: int = 1300
    pointed: str = ""


PICTURES = (
    Picture("report-table", "title", height=620),
    Picture("report-board", "board", height=690),
    Picture("report-skills", "skills", "theme=dark", height=640),
    Picture("report-scatter", "scatter", height=800, pointed=".point[data-run='par @64']"),
    Picture("report-compare", "compare", "a=par+%4064&b=random+%4064&skill=reading&outcome=broken", height=480),
    Picture("report-kept", "kept", "theme=dark&question=12", height=760),
    Picture("report-phone", "board", height=700, width=390),
)


def take(browser: Browser, report: Path, picture: Picture, path: Path) -> None:
    """Take a screenshot and write it as a PNG with a palette."""
    browser.open(report, picture.width, picture.height, picture.view)
    browser.evaluate(f"document.getElementById('{picture.section}').scrollIntoView({{ behavior: 'instant' }})")
    if picture.pointed:
        browser.evaluate(f'document.querySelector("{picture.pointed}").focus({{ preventScroll: true }})')
    browser.evaluate(_DRAWN)
    browser.screenshot(path)
    with Image.open(path) as image:
        small = with_palette(image.convert("RGB"))
    small.save(path, optimize=True)
    print(path, path.stat().st_size)


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and take all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        try:
            for picture in PICTURES:
                take(browser, given.report, picture, given.folder / f"{picture.name}.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()
