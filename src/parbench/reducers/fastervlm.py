"""FasterVLM (arXiv 2412.01818, version 1; official code Theia-4869/FasterVLM, commit f5d5f12)."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.reducers.cls_topk import ClsTopK


@dataclass
class FasterVlm(ClsTopK):
    """Keeps the patches with the highest CLS attention, mean over heads, in the block whose output LLaVA reads.

    It is the control ``cls-topk`` under its authors' name, and runs the same code; recorded outputs of their release match it.
    Kept tokens are in raster order. The release projects all patches and then selects; ours projects the kept ones, which gives
    the same tokens. Later versions of the paper describe VisPruner instead.

    As in the release, each crop of LLaVA-NeXT is reduced by itself (``cls-topk`` takes the best patches of all crops). In towers
    without CLS, ``attention=received`` ranks by the attention that a patch receives; that is ours.
    """

    title = "FasterVLM"
    paper = "arXiv 2412.01818"
    control = False
    own_within = "part"
