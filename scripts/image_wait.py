"""Measures how long the engine waits for images, with and without workers that prefetch them.

    python scripts/image_wait.py --images 128 --batch 32

llava-tiny answers one question about each image. The images are JPEGs of 640 x 480 pixels, noise on a gradient, in place of
photographs. Alternately for 0 workers and the default number, the script prints the total seconds, and the seconds for which the
main thread waited for images to be read, decoded and preprocessed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from functools import partial

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from parbench.config import build_reducer, compose_config
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.harness.prompts import build_prompt
from parbench.models.adapter import ModelAdapter


def jpeg(seed: int) -> bytes:
    """A JPEG of 640 x 480 pixels, random but determined by the seed."""
    random = np.random.default_rng(seed)
    slope = np.linspace(0, 180, 640)[None, :, None] + np.zeros((480, 1, 3))
    pixels = slope + random.normal(0, 20, (480, 640, 3)) + random.integers(0, 50, 3)
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def load(stored: bytes) -> list[Image.Image]:
    """Decode a JPEG."""
    return [Image.open(io.BytesIO(stored)).convert("RGB")]


def main() -> None:
    """Parse the command line, measure, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    config = compose_config(["method=random", "budget=64"])
    adapter = ModelAdapter.load(OmegaConf.to_container(config.model, resolve=True))
    question = "What colour is the circle?"
    samples = [
        Sample(str(number), partial(build_prompt, adapter, question), question, partial(load, jpeg(number)), str(number), 4)
        for number in range(arguments.images)
    ]
    batches = [samples[at : at + arguments.batch] for at in range(0, len(samples), arguments.batch)]
    for repeat in range(arguments.repeats):
        for workers in (0, config.engine.workers):
            engine = Engine(adapter, build_reducer(config.method, 64), workers=workers)
            begun = time.perf_counter()
            with contextlib.closing(engine.answers(batches)) as answers:
                answered = sum(len(batch) for batch in answers)
            seconds = time.perf_counter() - begun
            print(
                f"repeat {repeat}, {workers} workers: {answered} images in {seconds:.2f} s, waited {engine.images.waited:.2f} s "
                f"({100 * engine.images.waited / seconds:.0f} %)",
                flush=True,
            )


if __name__ == "__main__":
    main()
