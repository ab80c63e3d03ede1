"""Used from Python, parbench leaves the settings of its host's process as they were."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import threading
import warnings
from types import SimpleNamespace

import datasets
import matplotlib
import numpy as np
import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from lmms_eval import evaluator
from lmms_eval.api import task
from loguru import logger
from omegaconf import OmegaConf
from PIL import Image
from transformers.utils import logging as transformers_logging

from parbench.config import compose_config
from parbench.engine.allocator import keep_freed
from parbench.harness.evaluate import evaluate
from parbench.harness.session import Session
from parbench.harness.silence import quiet
from parbench.tracking import tracking_of


def settings_of_the_process() -> dict[str, object]:
    """What an evaluation might leave changed, by name."""
    return {
        "loguru": list(logger._core.handlers),
        "hydra": GlobalHydra.instance().hydra,
        "matplotlib": matplotlib.get_backend(),
        "excepthook": threading.excepthook,
        "transformers": (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()),
        "hub": are_progress_bars_disabled(),
        "datasets": (datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()),
        "lmms-eval": (logging.getLogger("lmms-eval").level, evaluator.tqdm, task.tqdm),
        "warnings": list(warnings.filters),
        "tokenizers": os.environ.get("TOKENIZERS_PARALLELISM"),
        # Where the service of W&B listens is W&B's own to say.
        "wandb": {name: value for name, value in os.environ.items() if name.startswith("WANDB_") and name != "WANDB_SERVICE"},
        "random": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
    }


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with settings of its own; gives what its handler of loguru hears."""
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    heard: list[str] = []
    handler = logger.add(heard.append, format="{message}")
    before = transformers_logging.get_verbosity(), datasets.logging.get_verbosity(), matplotlib.get_backend()
    transformers_logging.set_verbosity_info()
    transformers_logging.enable_progress_bar()
    datasets.logging.set_verbosity_debug()
    datasets.enable_progress_bars()
    matplotlib.use("svg")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text("answer: 42\n")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        yield heard
    transformers_logging.set_verbosity(before[0])
    datasets.logging.set_verbosity(before[1])
    matplotlib.use(before[2])
    logger.remove(handler)


@pytest.mark.model
def test_an_evaluation_leaves_the_settings_of_its_host(host, tmp_path):
    before = settings_of_the_process()
    words = ["method=par", "method.per_image=true", "limit=4", f"results_dir={tmp_path / 'runs'}"]
    config = compose_config(words)
    session = Session(config)
    run = evaluate(session, session.reducer(config.method))
    assert run.metrics.n == 4
    assert settings_of_the_process() == before
    assert compose("mine").answer == 42
    logger.info("still there")
    assert host[-1] == "still there\n"


@pytest.mark.external
def test_tracking_leaves_the_settings_of_its_host(host, tmp_path):
    pytest.importorskip("wandb")
    before = settings_of_the_process()
    words = ["method=none", "limit=2", f"results_dir={tmp_path / 'runs'}"]
    config = compose_config([*words, "tracking=wandb", "tracking.mode=offline", f"tracking.dir={tmp_path}"])
    session = Session(config)
    evaluate(session, session.reducer(config.method), tracking=tracking_of(session))
    assert list((tmp_path / "wandb").glob("offline-run-*"))
    assert settings_of_the_process() == before


def test_while_parbench_is_quiet_a_host_hears_nothing_and_a_person_hears_errors(host, capsys):
    with quiet():
        logger.info("chatter")
        logger.error("an error")
        # As parts of lmms-eval do when they are imported.
        logger.remove()
    assert capsys.readouterr().err == "an error\n"
    assert not host
    logger.info("afterwards")
    assert host == ["afterwards\n"]


def test_the_settings_are_back_after_an_error_too(host):
    before = settings_of_the_process()
    with pytest.raises(OSError, match="broken"), quiet():
        raise OSError("broken")
    assert settings_of_the_process() == before


def test_pictures_leave_the_hosts_windows_alone(host, tmp_path):
    import matplotlib.pyplot as plt

    from parbench.figures.kept_tokens import kept_picture
    from parbench.figures.views import View
    from parbench.results.layouts import square_layout
    from parbench.tracking.figures import figures

    mine = plt.figure()
    seen = View(Image.new("RGB", (8, 8)), square_layout(8, 2, 2), [(0, 0, 4, 4)])
    kept_picture(tmp_path / "kept.png", seen, np.array([1.0, 0.0, 0.0, 1.0]), "par @2", "What is it?")
    drawn = figures(tmp_path, [SimpleNamespace(visual=[[4, 2], [2, 2]])], SimpleNamespace(skills={"colour": 0.5}), "par @2")
    assert (tmp_path / "kept.png").is_file()
    assert all(path.is_file() for path in drawn.values())
    assert plt.get_fignums() == [mine.number]
    assert matplotlib.get_backend() == "svg"
    plt.close(mine)


def test_resolvers_of_a_host_keep_their_meaning():
    OmegaConf.register_new_resolver("asset", lambda name: f"mine/{name}", replace=True)
    try:
        assert compose_config(["model=llava-tiny"]).model.path.endswith("assets/llava-tiny")
        assert OmegaConf.create({"path": "${asset:logo}"}).path == "mine/logo"
    finally:
        OmegaConf.clear_resolver("asset")


def test_the_allocator_of_a_host_is_not_told_anything(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail(f"{name} was asked for"))
    assert not keep_freed()
