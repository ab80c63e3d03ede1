"""What ``import parbench`` gives: at once, without torch, and the same that type checkers see."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import time

import pytest

import parbench
from paths import ROOT


def python(code: str, folder) -> str:
    """What a process of its own prints that runs ``code`` in a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_importing_takes_no_time_and_no_torch(tmp_path):
    code = """
import sys, time
begun = time.perf_counter()
import parbench
dir(parbench), parbench.__version__, parbench.ParbenchError
print(time.perf_counter() - begun, [name for name in ("torch", "transformers", "hydra", "pandas", "numpy") if name in sys.modules])
"""
    begun = time.perf_counter()
    seconds, loaded = python(code, tmp_path).split(" ", 1)
    assert float(seconds) < 0.5
    assert time.perf_counter() - begun < 5
    assert loaded.strip() == "[]"


def test_everything_is_there_and_documented():
    assert set(parbench.__all__) <= set(dir(parbench))
    for name in parbench.__all__:
        assert inspect.getdoc(getattr(parbench, name)), name
    with pytest.raises(AttributeError, match="module parbench has no attribute reduced"):
        parbench.reduced


def test_type_checkers_see_the_same():
    stub = ast.parse((ROOT / "src" / "parbench" / "__init__.pyi").read_text())
    imported = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {name: f"{getattr(parbench, name).__module__}.{name}" for name in parbench.__all__}
    (listed,) = (node.value for node in stub.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(listed) == parbench.__all__


@pytest.mark.cli
def test_reducing_needs_neither_hydra_nor_lmms_eval_nor_a_folder_of_results(tmp_path):
    code = """
import sys
for name in ("hydra", "lmms_eval", "datasets"):
    sys.modules[name] = None
import parbench
from PIL import Image
model, processor = parbench.load_model("llava-tiny")
par = parbench.method("par", budget=64, model=model)
with parbench.reduce(model, processor, par) as r:
    image = Image.new("RGB", (336, 336), "red")
    inputs = processor(images=image, text="USER: <image>\\nIs it red? ASSISTANT:", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=2)
print(len(r.kept), r.flops.total > 0, r.show(0).mode, list(parbench.flops("llava-tiny", 64)["tokens"]))
"""
    assert python(code, tmp_path).split() == ["1", "True", "RGBA", "[64]"]
    assert list(tmp_path.iterdir()) == []
