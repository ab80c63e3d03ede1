"""Merges the shards of a run into the run that an unsharded evaluation gives, byte for byte."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from omegaconf import OmegaConf

from parbench.errors import ParbenchError
from parbench.harness.evaluate import Run, keep_submission, own_metrics, simple_evaluation
from parbench.harness.session import Session
from parbench.numerics import NUMERICS
from parbench.provenance import versions
from parbench.results.layouts import read_layouts
from parbench.results.metrics import read_metrics, summarise
from parbench.results.naming import sample_id
from parbench.results.record import SampleRecord
from parbench.results.run_identity import joined
from parbench.results.samples import FILE as SAMPLES
from parbench.results.samples import read_samples
from parbench.results.shards import Shard
from parbench.results.store import RunStore


class StoredAnswers(lmms):
    """Gives lmms-eval stored answers, so that it scores the whole data set.

    Args:
        texts: The answers by sample id.
    """

    is_simple = True

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__()
        self.texts = texts

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The stored answers, one per request.

        Raises:
            ParbenchError: The stored answers do not match the requests.
        """
        asked = [sample_id(request.args[4], request.args[3]) for request in requests]
        if differing := set(asked) ^ set(self.texts):
            name = min(differing)
            where = "in no shard" if name in asked else "in a shard, but not in the data set"
            raise ParbenchError(f"question {name} is {where}: run the shards again on the data set as it is now")
        return [self.texts[name] for name in asked]

    def clean(self) -> None:
        """Keep everything: there is no model to free, and lmms-eval's collecting of garbage takes as long as the scoring."""

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not supported: only generated answers are stored."""
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not supported: only generated answers are stored."""
        raise NotImplementedError


def merge(shards: Sequence[Shard], root: Path) -> Run:
    """Write the merged run.

    Args:
        shards: All shards of a run, finished, in order.
        root: The folder of runs.

    Raises:
        ParbenchError: The shards were computed by other code or on other data than are here now, or they overlap.
    """
    first = shards[0]
    identity, config = (
        first.whole,
        yaml.safe_load((first.folder / "config.yaml").read_text(encoding="utf-8")) | {"shard": None},
    )
    with contextlib.closing(RunStore(root, identity, config)) as store:
        if (metrics := store.metrics) is not None:
            return Run(store.folder, metrics, reused=True)
        session = _session(first, config)
        lines = [line for shard in shards for line in read_samples(shard.folder / SAMPLES, shard.computed_by)]
        _check_lines(lines, store)
        results = simple_evaluation(session, StoredAnswers({line.id: line.prediction for line in lines}))
        said = read_metrics(first.folder / "metrics.json")
        about = {**vars(said), "run_id": store.id, "shard": None, "lmms_eval": own_metrics(session.dataset, results)}
        if session.dataset.submits:
            keep_submission(session, store)
        about["figures"] = None if session.dataset.submits else session.dataset.settings.get("figures")
        metrics = summarise(lines, about)
        size = first.plan["batch_size"]
        if store.batch_size(lambda: size) != size:
            raise ParbenchError(f"{store.folder} was begun with batches of another size: move it away and merge again")
        store.settle(questions=len(lines))
        store.record(*joined([shard.computed_by for shard in shards]))
        store.add_layouts(layout for shard in shards for layout in read_layouts(shard.folder).values())
        store.append(lines)
        store.finish(metrics)
        return Run(store.folder, metrics, reused=False)


def _session(shard: Shard, config: Mapping[str, Any]) -> Session:
    """The session of the shards, on this machine; no model is loaded."""
    here = {"device": "cpu", "device_map": None, "max_memory": None, "quantization": None, "adapter": None}
    session = Session(OmegaConf.create({**config, "model": {**config["model"], **here}}))
    identity = shard.identity
    if session.dataset.fingerprint != identity["dataset"]["data"]:
        raise ParbenchError(f"data set {session.dataset.name} is not what the shards of {shard.run} were asked about")
    if (identity.get("numerics"), identity["versions"]) != (NUMERICS, versions()):
        raise ParbenchError(
            f"the shards of {shard.run} were computed by a parbench, or with libraries, that might score them differently: merge "
            "them with what computed them"
        )
    return session


def _check_lines(lines: Sequence[SampleRecord], store: RunStore) -> None:
    names = [line.id for line in lines]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ParbenchError(f"question {name} is in {times} shards: run the shards again with one engine.batch_size")
    if list(store.done) != names[: len(store.done)]:
        raise ParbenchError(f"{store.folder} holds the beginning of a run of other batches: move it away and merge again")
