"""Pictures of a report for the documentation, taken in a headless Chromium.

parbench report results/reference/scenes results/reference/bench-llava-tiny-cpu.json
PYTHONPATH=tests python scripts/picture_report.py results/report.html docs/images
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from PIL import Image

from browser import Browser
from parbench.figures.files import with_palette

# Until what was changed is drawn.
_DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def picture(browser: Browser, path: Path, section: str, height: int, pointed: str = "") -> None:
    """What a window shows from a section on, with the focus on an element, as a PNG with a palette."""
    browser.resize(1200, height)
    browser.evaluate(_DRAWN)
    browser.evaluate(f"document.getElementById('{section}').scrollIntoView({{ behavior: 'instant' }})")
    if pointed:
        browser.evaluate(f"document.querySelector({json.dumps(pointed)}).focus({{ preventScroll: true }})")
    browser.evaluate(_DRAWN)
    browser.screenshot(path)
    with Image.open(path) as image:
        small = with_palette(image.convert("RGB"))
    small.save(path, optimize=True)
    print(path)


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        try:
            browser.open(given.report, 1200)
            picture(browser, given.folder / "report-table.png", "title", 620)
            picture(browser, given.folder / "report-scatter.png", "scatter", 780, ".point[data-run='par @64']")
            browser.dark(True)
            browser.click("#images button:nth-child(2)")
            browser.click("#questions button:nth-child(3)")
            picture(browser, given.folder / "report-kept.png", "kept", 860)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
