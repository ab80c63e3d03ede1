"""VScan against recorded cases, which are of one stage each."""

from __future__ import annotations

from typing import Any

from parbench.parity.base import Parity, default
from parbench.parity.case import Case, Verdict
from parbench.parity.layers import LayerParity
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers import Reducer
from parbench.reducers.vscan import Guided, Scan


def _part(number: int, fields: dict[str, Any]) -> Any:
    """A stage of the method as evaluations have it, with the fields of a case."""
    return default("vscan").parts[number].with_fields({"budget": None, **fields})


class _First(TokenParity[Scan]):
    """Compares the patches of windows and of the whole image, and what is merged into them."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget; like the release without filling up."""
        return {"budget": case.parameters["visual_token_num"], "local": case.parameters["local_ratio"], "fills": False}

    def reducer(self, case: Case, patches: int) -> Scan:
        """The first stage."""
        found: Scan = _part(0, self.fields(case, patches))
        return found

    def compare(self, found: TokenRun[Scan], verdict: Verdict) -> None:
        """Compare both choices, and into which token each other patch is merged."""
        case, (local, whole) = found.case, found.method.choose(found.probes)
        kept = (local | whole)[0]
        verdict.chosen(kept.nonzero().flatten(), case.tensor("kept_indices"))
        # The release lists them window by window.
        verdict.chosen(local[0].nonzero().flatten(), case.tensor("local_indices").sort().values)
        verdict.chosen(whole[0].nonzero().flatten(), case.tensor("global_indices"))
        other = ~kept[found.patch]
        order = found.patch[other].argsort()
        verdict.chosen(found.token[other][order], case.tensor("assignment"))


class _Second(LayerParity):
    """Compares the kept tokens of each stage inside the LLM."""

    def fields(self, case: Case) -> dict[str, Any]:
        """Layers, and numbers of tokens; the first number is that of the tokens that enter the LLM."""
        return {"layers": case.parameters["layer_list"], "counts": case.parameters["image_token_list"][1:]}

    def reducer(self, case: Case) -> Reducer:
        """The second stage."""
        found: Guided = _part(1, self.fields(case))
        return found


class _VScan(Parity):
    """Compares a case with the stage that it is of."""

    def unsupported(self, case: Case) -> str | None:
        """Why a case cannot be compared."""
        return _stage(case).unsupported(case)

    def run(self, case: Case) -> Verdict:
        """Run the stage of a case, and compare."""
        return _stage(case).run(case)


def _stage(case: Case) -> Parity:
    return _Second() if "layer_list" in case.parameters else _First()


PARITY = _VScan()
