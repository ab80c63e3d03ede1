"""Compares every method at batch size 1 and 8, on the same features.

    python scripts/batch_agreement.py --questions 1000 --budget 64

The kept tokens must be the same. Answers may differ only if two logits are nearly equal, since the rounding of a kernel depends on
the batch size. Each such answer is printed with its margin.
"""

from __future__ import annotations

import argparse

from parbench.config import compose_config, names
from parbench.engine.batching import plan
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.harness.prompts import build_prompt
from parbench.harness.session import Session


def compare(engine: Engine, samples: list[Sample], batch: int) -> tuple[int, list[str]]:
    """Answer samples in batches and alone.

    Returns:
        The number of samples with other kept tokens, and a line for each answer that differs.
    """
    kept, lines = 0, []
    for numbers in plan(samples, batch):
        chosen = [samples[number] for number in numbers]
        for sample, one in zip(chosen, engine.answer(chosen), strict=True):
            (alone,) = engine.answer([sample])
            kept += alone.kept != one.kept
            if alone.text != one.text:
                lines.append(f"  {sample.id}: {alone.text!r} alone, {one.text!r} in a batch, margin {alone.margin:.2e}")
    return kept, lines


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--methods", nargs="*", default=names("method"))
    arguments = parser.parse_args()
    session = Session(compose_config([]))
    docs, adapter = session.dataset.docs(), session.adapter
    samples, images = [], []
    for number in range(arguments.questions):
        question = session.dataset.question(docs[number])
        samples.append(
            Sample(
                id=f"scenes-{number}",
                prompt=lambda count, question=question: build_prompt(adapter, question, count),
                question=question,
                load=lambda number=number: [images[number]],
                group=docs[number]["image_id"],
                max_new_tokens=8,
            )
        )
        same = number and docs[number]["image_id"] == docs[number - 1]["image_id"]
        images.append(images[-1] if same else session.dataset.visuals(number)[0])
    for name in arguments.methods:
        budget = None if name == "none" else arguments.budget
        try:
            engine = Engine(
                session.adapter, session.reducer(compose_config([f"method={name}"]).method, budget), features=session.features
            )
        except ParbenchError as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        kept, lines = compare(engine, samples, arguments.batch)
        same = len(samples) - len(lines)
        print(
            f"{name}: other tokens kept {kept} of {len(samples)}, same answer {same} ({100 * same / len(samples):.1f} %)",
            flush=True,
        )
        print("\n".join(lines), end="\n" if lines else "")


if __name__ == "__main__":
    main()
