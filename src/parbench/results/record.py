"""The files of a run as types: ``SampleRecord``, a line of ``samples.jsonl``, and ``RunMetrics``, the file ``metrics.json``.

Each field is described here once: its meaning, unit and shape, whether it is timing, and its type in pandas. ``docs/results.md``
is generated from these descriptions. Files older than format 1 have no ``format``; fields that they lack get their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

from parbench import __version__
from parbench.errors import ParbenchError

FORMAT = 1
FLOPS_PARTS = ("vision", "projector", "reducer", "llm_prefill", "decode", "total")
_SINGLE = ("text", "int", "number", "bool", "any")
_SPREAD = ("mean", "std", "min", "max")


def _about(
    said: str,
    kind: str,
    *,
    default: Any = MISSING,
    timing: bool = False,
    inside: Sequence[str] = (),
    left_out: bool = False,
) -> Any:
    """A field of a record.

    Args:
        said: Its meaning, with unit and shape.
        kind: Its type in JSON, for the documentation.
        default: Its value if an older file lacks it; a type stands for an empty value. Without a default it is mandatory.
        timing: Whether it may differ on another machine or another day; all other fields are reproducible.
        inside: Keys that its object must have.
        left_out: Whether it is omitted from the file when it is null.
    """
    about = {"said": said, "kind": kind, "timing": timing, "inside": tuple(inside), "left_out": left_out}
    if isinstance(default, type):
        return field(default_factory=default, metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord:
    """One sample of a run: a line of ``samples.jsonl``. The fields are described in their metadata and in docs/results.md."""

    id: str = _about("Id of the sample: the task and the row of its data set, `scenes-54`.", "text")
    image_id: str = _about("Id of its image. Bootstrap intervals resample images.", "text")
    task: str = _about("The task of lmms-eval.", "text")
    skill: str | None = _about("Skill that the question tests, if the data set defines skills.", "text or null", default=None)
    question: str = _about("The question, without the prompt format.", "text", default="")
    prediction: str = _about("The answer; empty if the sample failed.", "text")
    target: object = _about("The correct answer, as in the task.", "any")
    score: float | None = _about("Score of the answer, 0..1; null if only the benchmark's server can score it.", "number or null")
    unparseable: bool = _about(
        "Whether the answer is none of those that the question allows. It is scored as the task scores it.", "bool"
    )
    error: str | None = _about("Why the sample failed; null if it was answered.", "text or null")
    images: int = _about("Number of images of the sample.", "int", default=1)
    tokens_kept: float | None = _about(
        "Visual tokens of the sample, mean over the LLM's layers; null if it failed.",
        "number or null",
    )
    layers: Sequence[Sequence[int]] | None = _about(
        "Tokens of the sequence at each LLM layer, as `[tokens, layers]` pairs: `[[78, 12]]` is 78 at 12 layers.",
        "pairs or null",
        default=None,
    )
    visual: Sequence[Sequence[int]] | None = _about(
        "Visual tokens at each LLM layer, as `[tokens, layers]` pairs.", "pairs or null", default=None
    )
    generated: int | None = _about("Generated tokens, including the end token.", "int or null", default=None)
    stages: Mapping[str, float] = _about(
        "Visual tokens of the sample after each stage of the method, by the stage's name.", "object", default=dict
    )
    measures: Mapping[str, float] | None = _about(
        "Other figures of the method for the sample, summed over its images, such as `bits`; omitted if it has none.",
        "object or null",
        default=None,
        left_out=True,
    )
    kept: Sequence[str] = _about(
        "For each image the patches from which kept tokens come: one bit per patch in raster order, the first one highest, "
        "as hexadecimal digits. If a model sees several parts of an image, one bit per visual token in the order of the prompt.",
        "list of text",
        default=list,
    )
    own_tokens: Sequence[int] | None = _about(
        "For each image its visual tokens without reduction, which are the bits of `kept`. Only if images have different numbers "
        "of tokens; omitted otherwise.",
        "list of int or null",
        default=None,
        left_out=True,
    )
    frames: Sequence[int] | None = _about(
        "For each image or video its frames that have tokens of their own, 1 for an image. Only if one is a video; omitted "
        "otherwise.",
        "list of int or null",
        default=None,
        left_out=True,
    )
    clip_seconds: Sequence[float | None] | None = _about(
        "For each image or video the seconds shown: its frames that have tokens of their own, times the mean time from one "
        "to the next; null for an image or a single frame. Only if one is a video; omitted otherwise.",
        "list of number or null",
        default=None,
        left_out=True,
    )
    margin: float | None = _about(
        "Difference of the two highest logits, minimum over the generated tokens.",
        "number or null",
        default=None,
    )
    evidence_recall: float | None = _about(
        "Share of the patches a question needs that kept tokens come from, 0..1; null without boxes.",
        "number or null",
        default=None,
    )
    irrelevant: float | None = _about(
        "Share of the kept tokens that the question does not need, 0..1.",
        "number or null",
        default=None,
    )
    repeated: float | None = _about(
        "Share of the kept tokens in a needed box that contains another kept token, 0..1.",
        "number or null",
        default=None,
    )
    flops: Mapping[str, float] | None = _about(
        f"FLOPs of the sample, 2 per multiply-add, by part: {', '.join(f'`{part}`' for part in FLOPS_PARTS)}.",
        "object or null",
        default=None,
    )
    seconds: float | None = _about(
        "Seconds of the sample: its share of its batch's time.",
        "number or null",
        default=None,
        timing=True,
    )
    evidence_recall_any: float | None = _about(
        "Like `evidence_recall`, but a coarser token (of a thumbnail or base image) that shows the centre of a needed patch counts "
        "for it too; only of images in several parts.",
        "number",
        default=None,
        left_out=True,
    )
    unit: str | None = _about(
        "Samples of a unit count as one question, correct only if all of them are.",
        "text",
        default=None,
        left_out=True,
    )
    turn: int | None = _about(
        "Number of the question in the conversation about its image, from 1; only of conversations.",
        "int",
        default=None,
        left_out=True,
    )
    kv_bytes: float | None = _about(
        "Bytes of keys and values in the KV cache at the end of the turn; only of conversations. `flops` are then those of the "
        "turn, beside what earlier turns left in memory.",
        "number",
        default=None,
        left_out=True,
    )
    kv_written: float | None = _about(
        "Bytes of keys and values that the turn wrote; only of conversations.", "number", default=None, left_out=True
    )
    kept_columns: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The line: ``format``, the fields in order, and the columns of the data set that ``dataset.keeps`` names."""
        return {"format": FORMAT, **_values(self, SAMPLE_FIELDS), **self.kept_columns}

    def get(self, name: str) -> Any:
        """The value of a field or of a column of the data set; None if the line has no such name."""
        return getattr(self, name) if name in SAMPLE_FIELDS else self.kept_columns.get(name)

    @classmethod
    def parse(cls, found: Any, where: str, computed_by: Sequence[Mapping[str, Any]] = ()) -> Self:
        """Parse a line decoded from JSON.

        Args:
            found: The decoded line.
            where: Its file and line number, for error messages.
            computed_by: The code that wrote it, for error messages.

        Raises:
            ParbenchError: The line is not an object, lacks a mandatory field, or is of a later format.
        """
        line = _checked(found, where, _NEEDED_OF_SAMPLES, computed_by)
        known = {name: value for name, value in line.items() if name in SAMPLE_FIELDS}
        if len(known) + ("format" in line) == len(line):
            return cls(**known)
        columns = {name: value for name, value in line.items() if name not in known and name != "format"}
        return cls(**known, kept_columns=columns)


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """The metrics of a finished run: ``metrics.json``. The fields are described in their metadata and in docs/results.md."""

    run_id: str = _about("The run: the hash of its identity, and its folder's name.", "text")
    model: str = _about("The model, and how its weights are quantised.", "text")
    method: str = _about("The method.", "text")
    control: bool | None = _about("Whether the method is a control; null in older files.", "bool or null", default=None)
    site: str | None = _about(
        "Where the method acts: `pixels`, `tower`, `tokens`, `layers`, `mask`; null in files of before it was said.",
        "text or null",
        default=None,
    )
    dataset: str = _about("The data set.", "text")
    budget: float | None = _about(
        "Budget in visual tokens per image; null without a budget.",
        "number or null",
    )
    per: str | None = _about(
        "`frame` if the budget is for each frame of a video; omitted if it is for a whole image or video.",
        "text",
        default=None,
        left_out=True,
    )
    n: int = _about("Samples.", "int")
    failures: int = _about("Samples that failed; they count as wrong.", "int")
    unparseable: int = _about("Answers that are none of those their question allows.", "int")
    accuracy: float | None = _about("Mean score over units, 0..1; null if only a server can score.", "number or null")
    chance: float | None = _about("Accuracy of guessing, 0..1, where it is known.", "number or null")
    tokens_kept: Mapping[str, float] = _about(
        "Visual tokens of an image, mean over the LLM's layers: `mean`, `std`, `min`, `max` over the answered samples.",
        "object",
        inside=_SPREAD,
    )
    compression: float = _about("1 minus kept tokens / tokens without reduction, 0..1.", "number")
    evidence_recall: float | None = _about("Mean of the samples' `evidence_recall`.", "number or null")
    flops: Mapping[str, float | None] = _about(
        f"Mean FLOPs of a sample, 2 per multiply-add, by part: {', '.join(f'`{part}`' for part in FLOPS_PARTS)}.",
        "object",
        inside=FLOPS_PARTS,
    )
    units: int | None = _about(
        "Number of units: samples, or groups of them that count as one question.", "int or null", default=None
    )
    shard: str | None = _about("Which part of the questions, `0/4`; null for all.", "text or null", default=None)
    patches: int | None = _about(
        "Visual tokens of an image without reduction; null if images have different numbers of them.", "int or null", default=None
    )
    own_tokens: Mapping[str, float] | None = _about(
        "Visual tokens of an image without reduction: `mean`, `std`, `min`, `max` over the answered samples. Only if images have "
        "different numbers of them; omitted otherwise.",
        "object or null",
        default=None,
        left_out=True,
    )
    asked: float | None = _about(
        "Mean tokens of an image that the budget asks for, over the answered samples. Only if images have different numbers "
        "of tokens; omitted otherwise.",
        "number or null",
        default=None,
        left_out=True,
    )
    skills: Mapping[str, float] = _about("Accuracy by skill.", "object", default=dict)
    stages: Mapping[str, Mapping[str, float]] = _about(
        "Visual tokens of an image after each stage of the method: `mean`, `std`, `min`, `max`.",
        "object of objects",
        default=dict,
    )
    irrelevant: float | None = _about("Mean of the samples' `irrelevant`.", "number or null", default=None)
    repeated: float | None = _about("Mean of the samples' `repeated`.", "number or null", default=None)
    seconds_per_sample: float | None = _about("Mean seconds of an answered sample.", "number or null", default=None, timing=True)
    official: Mapping[str, Mapping[str, float]] = _about(
        "Official metrics of the data set, by category (POPE, MME).", "object of objects", default=dict
    )
    lmms_eval: Mapping[str, Any] = _about("The task's own metrics as lmms-eval aggregates them.", "object", default=dict)
    note: str = _about("Footnote of the method in tables.", "text", default="")
    measures: Mapping[str, Mapping[str, float]] | None = _about(
        "Other figures of the method for an image, such as `bits`: `mean`, `std`, `min`, `max`; omitted if it has none.",
        "object of objects or null",
        default=None,
        left_out=True,
    )
    trained: Mapping[str, Any] | None = _about(
        "Of a learned method: `said`, where its weights come from, and `seed`, `steps` and `model` of the training; omitted for "
        "others.",
        "object or null",
        default=None,
        left_out=True,
    )
    evidence_recall_any: float | None = _about(
        "Mean of the samples' `evidence_recall_any`; only of images in several parts.", "number", default=None, left_out=True
    )

    def to_json(self) -> dict[str, Any]:
        """The file's content: ``format``, then the fields in order."""
        return {"format": FORMAT, **_values(self, METRICS_FIELDS)}

    @classmethod
    def parse(cls, found: Any, where: str, computed_by: Sequence[Mapping[str, Any]] = ()) -> Self:
        """Parse the file's content decoded from JSON; unknown fields are dropped.

        Raises:
            ParbenchError: The content is not an object, lacks a mandatory field, or is of a later format.
        """
        metrics = _checked(found, where, _NEEDED_OF_METRICS, computed_by)
        return cls(**{name: value for name, value in metrics.items() if name in METRICS_FIELDS})


def _fields(kind: type) -> dict[str, Field[Any]]:
    return {one.name: one for one in fields(kind) if one.metadata}


SAMPLE_FIELDS = _fields(SampleRecord)
METRICS_FIELDS = _fields(RunMetrics)


def absent(name: str) -> Any:
    """The value of a field, or of a column of the data set, in a sample that lacks it."""
    known = SAMPLE_FIELDS.get(name)
    if known is None or known.default is not MISSING:
        return known.default if known else None
    return known.default_factory() if known.default_factory is not MISSING else None


def _needed(known: Mapping[str, Field[Any]]) -> tuple[str, ...]:
    """Names of the mandatory fields, with dotted names for mandatory keys inside them."""
    needed = [one for one in known.values() if one.default is MISSING and one.default_factory is MISSING]
    return tuple(name for one in needed for name in _dotted(one))


def _dotted(one: Field[Any]) -> list[str]:
    return [f"{one.name}.{key}" for key in one.metadata["inside"]] or [one.name]


# Types of fields with one scalar value per sample: text, number or bool.
SINGLE_VALUES = tuple(name for name, one in SAMPLE_FIELDS.items() if one.metadata["kind"].partition(" ")[0] in _SINGLE)
_NEEDED_OF_SAMPLES = _needed(SAMPLE_FIELDS)
_NEEDED_OF_METRICS = _needed(METRICS_FIELDS)
# Timing fields of both files; all others are reproducible.
TIMING_FIELDS = tuple(name for known in (SAMPLE_FIELDS, METRICS_FIELDS) for name, one in known.items() if one.metadata["timing"])


def columns(known: Mapping[str, Field[Any]], kind: str) -> frozenset[str]:
    """Names of the fields whose type is ``kind`` (``number`` or ``text``) or null; pandas gets this type even if all are null."""
    return frozenset(name for name, one in known.items() if one.metadata["kind"] in (kind, f"{kind} or null"))


def without_timing(found: Mapping[str, Any]) -> dict[str, Any]:
    """A line or metrics as JSON, without the timing fields, which may differ between two computations."""
    return {key: value for key, value in found.items() if key not in TIMING_FIELDS}


def _values(record: Any, known: Mapping[str, Field[Any]]) -> dict[str, Any]:
    found = {name: getattr(record, name) for name in known}
    return {name: value for name, value in found.items() if value is not None or not known[name].metadata["left_out"]}


def check_format(found: Mapping[str, Any], where: str) -> None:
    """Refuse files that a later parbench wrote.

    Raises:
        ParbenchError: The format is neither the current one nor missing.
    """
    if (said := found.get("format", FORMAT)) != FORMAT:
        raise ParbenchError(
            f"{where} is of format {said}, and parbench {__version__} reads up to {FORMAT}: read it with the parbench that wrote it"
        )


def demand(found: Mapping[str, Any], where: str, keys: Sequence[str], computed_by: Sequence[Mapping[str, Any]] = ()) -> None:
    """Check that all of these keys exist; nested keys are dotted.

    Raises:
        ParbenchError: A key is missing; the message names it and, if known, the version that wrote the file.
    """
    missing = [key for key in keys if not _has(found, key)]
    if not missing:
        return
    version = computed_by[0].get("parbench") if computed_by else None
    raise ParbenchError(
        f"{where} is of another format (it lacks {', '.join(missing)}; written by parbench {version or '?'}, this is "
        f"{__version__}): read it with that version, or run again"
    )


def _checked(found: Any, where: str, needed: Sequence[str], computed_by: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    line = found if isinstance(found, Mapping) else {}
    check_format(line, where)
    demand(line, where, needed, computed_by)
    return line


def _has(found: Mapping[str, Any], key: str) -> bool:
    block, _, inner = key.partition(".")
    if not inner:
        return block in found
    return isinstance(found.get(block), Mapping) and inner in found[block]
