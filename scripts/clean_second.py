"""The second collection of published numbers, in the columns of results/published/published.csv.xz.

The second collection (newer image models, video, and more on LLaVA-1.5) was typed in these columns already. What its notes say
about resolution, prompts, scores and the counting of tokens becomes columns here; the rest of a note stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

# What a note says and a column says too: left out of the note.
_SAID = (
    r"read in a stored text copy of the paper",
    r"read in a recognised text of the paper",
    r"picture of the paper's table (in the repository|on the project page)",
    r"paper arXiv:\d{4}\.\d{5}",
    r"rows that the first collection has not",
    r"upper limits of tokens, shares of 2880",
    r"MME stated P\+C, POPE stated as F1",
    r"POPE stated as (F1|accuracy)",
    r"VideoMME without subtitles",
    r"share is before the LLM",
    r"share is the final one",
    r"average retention over layers",
    r"for methods inside the LLM the share is averaged over layers",
    r"accuracies of others are taken over from HoliTom by its authors",
)
# A note, the benchmark that it is about, and the setting that it states.
_SETTINGS = (
    ("POPE stated as F1", "pope", "F1"),
    ("POPE stated as accuracy", "pope", "accuracy"),
    ("VideoMME without subtitles", "videomme", "without subtitles"),
    ("so TextVQA without OCR tokens", "textvqa", "no OCR tokens"),
)
_COUNTED = (
    ("share is before the LLM", "before the LLM"),
    ("share is the final one", "after the last layer"),
    ("average retention over layers", "average over layers"),
    ("the share is averaged over layers", "average over layers"),
)
# Methods that end before the LLM: all its layers see as many tokens, however they are counted.
_BEFORE = frozenset(
    [
        "cdpruner",
        "divprune",
        "fastervlm",
        "fastvid",
        "globalcom2",
        "hiprune",
        "idpruner",
        "mmtok",
        "no-image-tokens",
        "none",
        "pool",
        "prumerge",
        "prumerge-plus",
        "prunesid",
        "random",
        "scope",
        "tome",
        "trim",
        "uniform",
        "vidcom2",
        "visionselector",
        "visionzip",
        "vispruner",
    ]
)
# Models that take an image in its own size, unless a source fixes it.
_ANY_SIZE = ("qwen2", "qwen3", "internvl3")
_OTHER_FIRST_WORDS = {
    "VidCom2, project page (branch homepage)": "VidCom2",
    "FasterVLM (v1 of VisPruner's arXiv number)": "FasterVLM",
    "VScan's own rows (arXiv:2505.22654)": "VScan",
    "VisionZip for Qwen2.5VL, its authors' README in another repository": "VisionZip",
}
HOLITOM = "arXiv:2505.21334"


def clean_second(collected: pd.DataFrame) -> pd.DataFrame:
    """The rows as they were collected, in the columns of the published numbers.

    Args:
        collected: ``collected-second.csv.xz``, all columns as text.
    """
    notes = collected["note"]
    first = notes.str.split("; ").str[0]
    rows = collected.drop(columns="retained").assign(
        setting=[setting(benchmark, note) for benchmark, note in zip(collected["benchmark"], notes, strict=True)],
        resolution=resolutions(collected),
        counted=[counted(method, note) for method, note in zip(collected["method"], notes, strict=True)],
        paper=[paper(source, note) for source, note in zip(collected["source"], notes, strict=True)],
        name=first.map(lambda text: _OTHER_FIRST_WORDS.get(text, text)),
        taken_from=[
            HOLITOM if "taken over from HoliTom" in note and method not in ("earlytom", "none", "holitom") else ""
            for method, note in zip(collected["method"], notes, strict=True)
        ],
        note=notes.map(shortened),
    )
    for column in ("value", "tokens", "compression", "tflop", "flops_share"):
        rows[column] = pd.to_numeric(rows[column])
    for column in ("trained", "own_authors"):
        rows[column] = rows[column] == "True"
    return rows


def setting(benchmark: str, note: str) -> str:
    """The setting that a note states of its benchmark; empty where it states none."""
    return next((said for words, about, said in _SETTINGS if about == benchmark and words in note), "")


def counted(method: str, note: str) -> str:
    """How tokens were counted, where that matters for the method."""
    return "" if method in _BEFORE else next((said for words, said in _COUNTED if words in note), "")


def paper(source: str, note: str) -> str:
    """The paper behind a file of a repository; of other sources, the source."""
    found = re.search(r"paper (arXiv:\d{4}\.\d{5})", note)
    return found[1] if found else source.removeprefix("paper ").replace(" (no arXiv number seen)", "")


def shortened(note: str) -> str:
    """A note without what columns say."""
    parts = note.split("; ")
    kept = [parts[0]] if parts[0] in _OTHER_FIRST_WORDS else []
    kept += [part for part in parts[1:] if not any(re.fullmatch(said, part) for said in _SAID)]
    return "; ".join(kept).replace("read in a recognised text of the paper", "recognised text")


def resolutions(collected: pd.DataFrame) -> pd.Series:
    """Of models that take an image in its own size: how large a source's images were, empty where it does not say.

    A source that prints one number of visual tokens for the unreduced model had images of one size.
    """
    found = pd.Series("", index=collected.index)
    any_size = collected[collected["model"].str.startswith(_ANY_SIZE)]
    for _, table in any_size.groupby(["model", "source", "place"]):
        found[table.index] = table.apply(_resolution, axis=1, whole=_whole(table))
    return found


def _whole(table: pd.DataFrame) -> str:
    """The number of visual tokens of the unreduced model in a table; empty where it prints none."""
    none = set(table["tokens"][table["method"] == "none"]) - {""}
    if none:
        return f"{float(none.pop()):g}"
    stated = table["note"].str.extract(r"share is of ([\d,]+) tokens")[0].dropna()
    return stated.iloc[0].replace(",", "") if len(stated) else ""


def _resolution(row: Mapping[str, str], whole: str) -> str:
    if whole:
        return f"fixed, {whole} tokens"
    if row["max_pixels"]:
        return f"dynamic, at most {row['max_pixels']} pixels"
    return "dynamic, 256 to 2048 tokens" if "256 to 2048 tokens an image" in row["note"] else ""
