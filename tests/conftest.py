"""What the tests share: the shipped model, loaded once, and a cache folder of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Read when huggingface_hub is imported: no test waits for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# Of several test processes each takes one core; read when torch is imported, and by processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
# Processes that a test starts in another folder import what this one imports.
if "PYTHONPATH" in os.environ:
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))

import hypothesis
import pytest
import torch

import tiers

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("parbench", deadline=None)
hypothesis.settings.load_profile("parbench")


# Files that take longest, longest first, so that short ones fill the time at the end.
_LONG = (
    "test_slurm.py",
    "test_notebooks.py",
    "test_tracking.py",
    "test_conformance.py",
    "test_golden_answers.py",
    "test_run_pages.py",
    "test_sweep_faults.py",
    "test_scoring.py",
    "test_parity.py",
    "test_report.py",
    "test_reference.py",
    "test_calibrating.py",
    "test_placement.py",
    "test_figures.py",
    "test_devices.py",
    "test_bad_input.py",
    "test_bench.py",
    "test_zoo.py",
    "test_families.py",
    "test_reduce.py",
    "test_local.py",
    "test_named_tasks.py",
    "test_shards.py",
    "test_docs.py",
    "test_wheel.py",
)


def pytest_configure(config):
    from shared_state import configuration_once

    # Before the test files are imported, which list the methods.
    shared = configuration_once()
    shared.__enter__()
    config.add_cleanup(lambda: shared.__exit__(None, None, None))
    for name, needs in tiers.TIERS.items():
        config.addinivalue_line("markers", f"{name}: {needs}")


# Before -m chooses.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))
    tiers.mark(items)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    os.environ["PARBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["HF_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def settings() -> dict:
    from omegaconf import OmegaConf

    from parbench.config import compose_config

    return OmegaConf.to_container(compose_config([]).model, resolve=True)


@pytest.fixture(scope="session")
def geometry(settings):
    """Sizes of llava-tiny, without its weights."""
    from parbench.models.configs import config_of
    from parbench.models.geometry import geometry_of

    return geometry_of(config_of(settings))


@pytest.fixture(scope="session", autouse=True)
def _loaded(_cache, settings):
    """Commands that tests run in this process share the shipped model and scenes."""
    from shared_state import one_model, scenes_once

    with one_model(settings) as loaded, scenes_once():
        yield loaded


# The state of each shared model after the last test.
_STATES: dict[str, tuple] = {}


@pytest.fixture(autouse=True)
def _nothing_leaks(request, _loaded):
    """A test leaves the shared model as it found it. Tests of the first tier have none."""
    from shared_state import state

    if "unit" in tiers.tiers_of(request.node):
        yield
        return
    # Between two tests nothing runs that could change it.
    before = {key: _STATES.get(key) or state(model) for key, model in _loaded.items()}
    yield
    _STATES.clear()
    after = {key: state(_loaded[key]) for key in before}
    assert before == after, "the test changed the model that all tests share"
    # Loading replaces it for a while.
    assert torch.nn.init.kaiming_uniform_.__module__ == "torch.nn.init", "the test left torch without initialisation of weights"
    _STATES.update(after)


@pytest.fixture(autouse=True)
def _no_weights(request, _loaded, monkeypatch):
    """A test of the first tier loads no model."""
    if "unit" in tiers.tiers_of(request.node):
        from parbench.models.adapter import ModelAdapter

        def refuse(_config):
            raise AssertionError("this test loads a model: mark it model, or let it ask for the fixture adapter")

        monkeypatch.setattr(ModelAdapter, "load", refuse)


@pytest.fixture(scope="session")
def adapter(settings, _loaded):
    from parbench.models.adapter import ModelAdapter

    return ModelAdapter.load(settings)


@pytest.fixture(scope="session")
def scenes():
    """Rows of the test split with images."""
    from parbench.scenes.dataset import load_scenes

    return load_scenes("test")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a parbench command in an empty folder; gives exit code, what it printed and its errors."""
    from parbench.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory) -> Path:
    """Real runs: llava-tiny on the first questions of scenes, three methods and two controls at two budgets."""
    from parbench.cli import main

    folder = tmp_path_factory.mktemp("sweep")
    words = ["methods=[par,fastv,tome]", "controls=[random,uniform]", "budgets=[128,64,own]", "limit=24"]
    assert main(["sweep", *words, f"results_dir={folder}"]) == 0
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Writes the miniature of a published checkpoint, once, and returns its folder."""
    import family_miniatures

    folder = tmp_path_factory.mktemp("hub")

    def written(name: str) -> Path:
        return folder / name if (folder / name).exists() else family_miniatures.write(name, folder / name)

    return written
