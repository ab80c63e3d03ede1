"""Models that several threads build: what transformers changes in torch meanwhile is put back."""

from __future__ import annotations

import threading

import pytest
from torch.nn import init
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

import zoo
from parbench.models.silence import quiet_transformers
from parbench.models.skeleton import _skeleton, skeleton

pytestmark = pytest.mark.model


def test_torchs_initialisation_is_there_after_two_threads_have_built_models(monkeypatch):
    """As where a reading thread sizes an image while CLIP is loaded: the first ends while the second is at work."""
    before, build = init.kaiming_uniform_, AutoModelForImageTextToText.from_config
    first, second = zoo.llava().model.config, zoo.qwen2_vl().model.config
    both, ended = threading.Event(), threading.Event()

    def built(config, **options):
        if config.model_type == first.model_type:
            both.wait(0.3)
        else:
            both.set()
            ended.wait(0.3)
        return build(config, **options)

    def build_first() -> None:
        skeleton(first)
        ended.set()

    monkeypatch.setattr(AutoModelForImageTextToText, "from_config", built)
    _skeleton.cache_clear()
    threads = [threading.Thread(target=build_first), threading.Thread(target=skeleton, args=(second,))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert init.kaiming_uniform_ is before


def test_transformers_speaks_again_after_blocks_that_end_in_any_order():
    before = logging.get_verbosity()
    one, other = quiet_transformers(), quiet_transformers()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert logging.get_verbosity() == logging.ERROR
    other.__exit__(None, None, None)
    assert logging.get_verbosity() == before
