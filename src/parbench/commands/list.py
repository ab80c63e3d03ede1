"""``parbench list``: list methods, models, data sets, skills or launchers, without loading them."""

from __future__ import annotations

import json

from parbench.commands.command import LISTED
from parbench.commands.parsing import Given
from parbench.config.described import Entry, entries, skills
from parbench.errors import ParbenchError, unknown


def run(given: Given) -> None:
    """Print one line per entry, or JSON.

    Raises:
        ParbenchError: The kind of entries is missing or unknown.
    """
    if len(given.rest) != 1:
        raise ParbenchError(f"list takes one word: write parbench list {'|'.join(LISTED)}")
    what = given.rest[0]
    if what not in LISTED:
        raise unknown("list", what, LISTED)
    found = skills() if what == "skills" else entries(what.removesuffix("s"))
    if given["json"]:
        print(json.dumps([one.to_json() for one in found], indent=2))
        return
    for line in lines(found):
        print(line)


def lines(found: list[Entry]) -> list[str]:
    """Entries as lines with aligned columns: name, site, description."""
    name = max((len(one.name) for one in found), default=0)
    site = max((len(one.site) for one in found), default=0)
    return ["  ".join(filter(None, (f"{one.name:{name}}", f"{one.site:{site}}", one.said))).rstrip() for one in found]
