"""Writes results/published/published.csv.xz from the two collections beside it: one meaning a column; results/published/README.md
says which.

    python scripts/clean_published.py

Nothing is corrected and nothing left out: what a source leaves open stays open (an empty subset, a POPE number that may be F1 or
accuracy), and what was inferred is said in ``note``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from clean_second import clean_second
from parbench.tables.published import COLUMNS

FOLDER = Path(__file__).parents[1] / "results" / "published"

# As collected: name here, variant, and whether anything was trained for it.
METHODS = {
    "vanilla": ("none", "", False),
    "FastV": ("fastv", "", False),
    "FastV (K=2 R=50%)": ("fastv", "K=2, R=50%", False),
    "FastV (K=3 R=50%)": ("fastv", "K=3, R=50%", False),
    "SparseVLM": ("sparsevlm", "", False),
    "SparseVLM (v1)": ("sparsevlm", "v1", False),
    "VisionZip": ("visionzip", "", False),
    "VisionZip-FT (projector tuned)": ("visionzip", "projector tuned", True),
    "VisionZip (trained-in)": ("visionzip", "trained in", True),
    "DivPrune": ("divprune", "", False),
    "DivPrune (token count matched to PruMerge)": ("divprune", "as many tokens as PruMerge", False),
    "PyramidDrop": ("pyramiddrop", "", False),
    "PyramidDrop (lambda=0.5)": ("pyramiddrop", "lambda=0.5", False),
    "PyramidDrop (trained-in)": ("pyramiddrop", "trained in", True),
    "PruMerge (training-free)": ("prumerge", "", False),
    "PruMerge (LoRA-FT)": ("prumerge", "LoRA", True),
    "PruMerge AITS only (training-free)": ("prumerge", "adaptive selection only, no merging", False),
    "PruMerge+": ("prumerge-plus", "", False),
    "PruMerge+ (LoRA-FT)": ("prumerge-plus", "LoRA", True),
    "ToMe": ("tome", "", False),
    "TRIM": ("trim", "", False),
    "TRIM (fine-tuned)": ("trim", "fine-tuned", True),
    "CDPruner": ("cdpruner", "", False),
    "VisPruner": ("vispruner", "", False),
    "VTW": ("vtw", "", False),
    "VTW (K=16)": ("vtw", "K=16", False),
    "VTW (K=20)": ("vtw", "K=20", False),
    "PAR": ("par", "", False),
    "random sampling": ("random", "", False),
    "spatial pooling": ("pool", "", False),
    "sequential first-N": ("first-n", "", False),
    # Not among parbench's methods.
    "DART": ("dart", "", False),
    "EViT": ("evit", "", False),
    "FitPrune": ("fitprune", "", False),
    "TokenPacker (trained)": ("tokenpacker", "trained", True),
    "TopK": ("topk", "", False),
}
BENCHMARKS = {
    "GQA": "gqa",
    "MMBench": "mmbench",
    "MMBench-CN": "mmbench-cn",
    "MME": "mme",
    "MM-Vet": "mm-vet",
    "POPE": "pope",
    "ScienceQA-IMG": "scienceqa",
    "SEED": "seedbench",
    "TextVQA": "textvqa",
    "VizWiz": "vizwiz",
    "VQAv2": "vqav2",
    "AVERAGE(relative)": "average",
}
# As collected: metric, subset, and what was inferred.
METRICS = {
    "accuracy(%)": ("accuracy", "", ""),
    "accuracy(%) [val split]": ("accuracy", "val", ""),
    "accuracy(%) [image subset]": ("accuracy", "image", ""),
    "accuracy(%) [image subset inferred from vanilla ~66; paper prints SEED]": (
        "accuracy",
        "image",
        "image subset inferred from the unreduced value",
    ),
    "F1/score(%)": ("f1-or-accuracy", "", ""),
    "perception score": ("perception", "", ""),
    "cognition score": ("cognition", "", ""),
    "perception+cognition score": ("points", "", ""),
    "GPT score": ("gpt-score", "", ""),
    "% of vanilla": ("relative", "", ""),
}
# What the unreduced model's value tells of all numbers of a model in a table, where sources do not say it: the column that says it,
# what it says, and between which values. TextVQA is about 12 points lower without OCR tokens, MMBench about 10 points higher as a
# mean over rows, and VQAv2 about 2 points lower on val.
INFERRED = {
    "textvqa": ("setting", "OCR tokens", {"llava-1.5-7b": (57.7, 58.7), "llava-1.5-13b": (60.8, 61.8)}),
    "mmbench": ("setting", "CircularEval", {"llava-1.5-7b": (63.5, 66.5), "llava-1.5-13b": (67.0, 69.5)}),
    "vqav2": ("subset", "test-dev", {"llava-1.5-7b": (78.3, 78.7), "llava-1.5-13b": (79.8, 80.2)}),
}
MODELS = {"LLaVA-1.5-7B": "llava-1.5-7b", "LLaVA-1.5-13B": "llava-1.5-13b"}
# Where a method is published: numbers of its own authors.
OWN = {
    "visionzip": "2412.04467",
    "sparsevlm": "2410.04417",
    "pyramiddrop": "2410.17247",
    "divprune": "2503.02175",
    "prumerge": "2403.15388",
    "prumerge-plus": "2403.15388",
    "fastv": "2403.06764",
    "cdpruner": "2506.10967",
    "par": "2410.07278",
}
# Short names of papers of the first collection.
NAMES = {
    "arXiv:2403.06764": "FastV",
    "arXiv:2403.15388": "PruMerge",
    "arXiv:2410.04417": "SparseVLM",
    "arXiv:2410.07278": "PAR",
    "arXiv:2410.17247": "PyramidDrop",
    "arXiv:2412.04467": "VisionZip",
    "arXiv:2503.02175": "DivPrune",
}
# Sources that are no paper: what they are called.
OTHERS = {
    "README results table of a public repository (VScan-style layout; second-hand)": "a public README (VScan's layout)",
    "TokenPacker row in a public README results table (trained projector; second-hand; cf. arXiv:2407.02392)": (
        "a public README (TokenPacker)"
    ),
    "Recoverable Compression (AAAI25) README table, PruMerge row": "README of Recoverable Compression",
}


def source(text: str) -> tuple[str, str, str]:
    """Source, place in it and what was said about it."""
    if text in OTHERS:
        return OTHERS[text], "README table", "second-hand" if "second-hand" in text else ""
    found = re.fullmatch(r"(arXiv:\d{4}\.\d{5})(?:v\d+)? ?(.*)", text)
    if not found:
        raise SystemExit(f"unknown source: {text}")
    paper, rest = found.groups()
    notes = re.findall(r"\(([^)]*)\)", rest)
    place = " ".join(re.sub(r"\([^)]*\)", "", rest).split())
    return paper, place, "; ".join(notes)


def flops(text: object) -> tuple[float | None, float | None]:
    """TFLOP, and share of the unreduced model's."""
    said = "" if pd.isna(text) else str(text)
    total = re.match(r"([\d.]+) TFLOPs", said)
    share = re.search(r"([\d.]+)%", said)
    return (float(total[1]) if total else None), (round(float(share[1]) / 100, 4) if share else None)


def clean(row: pd.Series) -> dict[str, object]:
    """One number."""
    grid = re.fullmatch(r"spatial grid (\dx\d)", row["method"])
    method, variant, trained = ("uniform", f"grid {grid[1]}", False) if grid else METHODS[row["method"]]
    metric, subset, inferred = METRICS[row["metric"]]
    paper, place, said = source(row["source"])
    tflop, share = flops(row["tflops_or_flops_ratio"])
    compression = row["compression_percent"]
    return {
        "method": method,
        "variant": variant,
        "trained": trained,
        "model": MODELS.get(row["model"], "llava"),
        "benchmark": BENCHMARKS[row["benchmark"]],
        "subset": subset,
        "metric": metric,
        "value": row["value"],
        "tokens": row["visual_tokens_kept"],
        "compression": None if pd.isna(compression) else round(compression / 100, 4),
        "tflop": tflop,
        "flops_share": share,
        "source": paper,
        "place": place,
        "setting": "",
        "own_authors": OWN.get(method, "") == paper.removeprefix("arXiv:"),
        "note": "; ".join(text for text in (said, inferred, "" if row["model"] in MODELS else row["model"]) if text),
    }


def infer(rows: pd.DataFrame) -> pd.DataFrame:
    """The numbers with what their table's unreduced value tells."""
    rows = rows.copy()
    for (benchmark, model, _, _), table in rows.groupby(["benchmark", "model", "source", "place"]):
        column, what, ranges = INFERRED.get(benchmark, ("", "", {}))
        low, high = ranges.get(model, (1.0, 0.0))
        none = table["value"][table["method"] == "none"]
        if not len(none) or not none.between(low, high).all():
            continue
        rows.loc[table.index, column] = what
        said = f"{what} inferred from the unreduced value"
        rows.loc[table.index, "note"] = [f"{note}; {said}" if note else said for note in table["note"]]
    return rows


def table() -> pd.DataFrame:
    """Both collections, as published.csv.xz has them."""
    collected = pd.read_csv(FOLDER / "collected.csv")
    first = pd.DataFrame([clean(row) for _, row in collected.iterrows()])
    second = clean_second(pd.read_csv(FOLDER / "collected-second.csv.xz", dtype="str", keep_default_na=False))
    # The same paper has one name in both.
    names = NAMES | dict(zip(second["paper"], second["name"], strict=True))
    first = first.assign(paper=first["source"], name=first["source"].map(lambda source: names.get(source, "")))
    rows = pd.concat([first, second], ignore_index=True)
    text = [name for name, kind in COLUMNS.items() if kind == "str"]
    rows[text] = rows[text].fillna("")
    # As the sources list them, which is how rows belong together.
    return infer(rows)[list(COLUMNS)]


def main() -> None:
    """Read, clean, write."""
    rows = table()
    rows.to_csv(FOLDER / "published.csv.xz", index=False)
    print(f"{len(rows)} numbers of {rows['paper'].nunique()} papers and other sources", file=sys.stderr)


if __name__ == "__main__":
    main()
