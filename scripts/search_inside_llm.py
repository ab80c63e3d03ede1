"""Searches the settings of VTW and YOPO: the layer at which visual tokens can be removed, and the heads to prune.

    python scripts/search_inside_llm.py --eta 0.003 --threshold 0.2
    python scripts/search_inside_llm.py model=llava-1.5-13b model.path=/models/llava-1.5-13b-hf --eta 0.0005 --heads 100

Use the printed values as `method.layer=` of vtw and `method.pruned_heads=` of yopo. The questions are from the val split.
"""

from __future__ import annotations

import argparse

import torch

from parbench.config import build_reducer, compose_config
from parbench.engine.inputs import Rows, Visual, build_rows
from parbench.engine.layer_search import divergences, first_below, kept_heads, visual_share
from parbench.errors import ParbenchError
from parbench.harness.prompts import build_prompt
from parbench.harness.session import Session


@torch.inference_mode()
def rows_of(session: Session, number: int) -> Rows:
    """The input of the LLM for a question of the data set, with all visual tokens."""
    adapter, dataset = session.adapter, session.dataset
    images = [image.convert("RGB") for image in dataset.visuals(number)]
    tokens = adapter.project(adapter.encode(adapter.pixels(images)).features)
    prompt = build_prompt(adapter, dataset.question(dataset.docs()[number]), len(images))
    ids = adapter.ids(prompt, [adapter.family.tokens_of(image.size) for image in images])
    shown = [adapter.family.tokens_of(image.size) for image in images]
    visuals = [Visual(each, torch.arange(len(each)), of) for each, of in zip(tokens, shown, strict=True)]
    return build_rows(adapter, [ids], [visuals], "compact", [1])


def main() -> None:
    """Parse the command line, search, and print the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--layers", type=int, default=20, help="samples for the layer")
    parser.add_argument("--eta", type=float, default=0.003, help="greatest mean divergence")
    parser.add_argument("--heads", type=int, default=20, help="samples for the heads")
    parser.add_argument("--threshold", type=float, default=0.2, help="least share of attention to images")
    arguments = parser.parse_args()
    session = Session(compose_config([*arguments.overrides, "dataset.split=val"]))
    method = build_reducer(compose_config(["method=vtw"]).method)
    # The official release starts at layer 5 of 32.
    candidates = range(max(1, round(5 * session.geometry.layers / 32)), session.geometry.layers)
    found = [divergences(session.adapter, method, rows_of(session, n), candidates) for n in range(arguments.layers)]
    mean = torch.cat(found).mean(0).tolist()
    print(
        "layer  divergence",
        *(f"{layer:5}  {value:.3g}" for layer, value in zip(candidates, mean, strict=True)),
        sep="\n",
    )
    try:
        print(f"method.layer={first_below(torch.cat(found), candidates, arguments.eta)}")
    except ParbenchError as error:
        print(error)
    share = torch.cat([visual_share(session.adapter, rows_of(session, n)) for n in range(arguments.heads)])
    # A head is kept if it attends to the image in more than 40 % of the samples, as in the official release.
    _, kept = kept_heads(share, arguments.threshold, 40 * arguments.heads // 100)
    pruned = [[int(layer), int(head)] for layer, head in (~kept).nonzero()]
    print(f"method.pruned_heads={pruned}".replace(" ", ""))


if __name__ == "__main__":
    main()
