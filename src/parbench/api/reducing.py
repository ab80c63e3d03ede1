"""``with parbench.reduce(model, processor, method) as r:`` -- a method inside a plain Hugging Face model."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from parbench.api.call import VISION_INPUTS, Call, take_apart, unpadded
from parbench.api.generation import Generation, through
from parbench.api.methods import ready
from parbench.api.models import Known, check_kind, known_of
from parbench.api.question import QuestionFinder
from parbench.api.reduced import Reduced
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.placement import bridge
from parbench.models.text import ClipSpace, load_clip
from parbench.reducers import Reducer

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, ProcessorMixin

# Models with an open block.
_OPEN: weakref.WeakSet[Any] = weakref.WeakSet()
# CLIP text towers loaded earlier, by model.
_CLIPS: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], ClipSpace]] = weakref.WeakKeyDictionary()
# Arguments of the model's forward that do not work with a reduced prompt.
_REFUSED = {
    "labels": "a loss over a prompt that is shorter than its labels means nothing",
    "inputs_embeds": "the images' places are found in input_ids",
    "mm_encoder_outputs": "the method needs the images themselves, as pixel_values",
}


@contextlib.contextmanager
def reduce(
    model: LlavaForConditionalGeneration,
    processor: ProcessorMixin,
    method: Reducer,
    *,
    question: str | Sequence[str] | None = None,
    clip: str | None = None,
) -> Iterator[Reduced]:
    """While open, the model's visual tokens are reduced whenever it is given a prompt with images.

    Everything else is unchanged Hugging Face: ``model(...)``, ``model.generate(...)`` with sampling and streamers, ``pipeline``.
    All hooks are removed when the block ends, also after an exception.

    Args:
        model: A ``LlavaForConditionalGeneration``, or the same of another family (docs/families.md), of any dtype, on any device.
        processor: The processor that makes the prompts, padding on the left.
        method: From :func:`parbench.method`, or an instance of your own class.
        question: The question for prompt-aware methods, one for all prompts or one for each; None for the last question in
            each prompt, without chat template.
        clip: Folder or hub name of the CLIP that the model's vision tower belongs to, for methods that compare text with
            patches; not needed for models of ``conf/model``.

    Yields:
        What the method did to the prompts of the last forward.

    Raises:
        ParbenchError: The model is of another kind, the budget is impossible on it, or a block is open on it already. Inside the
            block: a prompt does not fit, or a generation setting does not work with a reduced prompt (such as beams).
    """
    check_kind(model)
    if model in _OPEN:
        raise ParbenchError("parbench.reduce is open on this model already: end that block first, since one method acts at a time")
    known = known_of(model, clip)
    method = ready(method, known)
    if method.told_evidence:
        raise ParbenchError(
            f"method {method.name} has to be told where the evidence is, which a prompt does not say: use it in an evaluation of "
            "data with boxes, such as scenes"
        )
    engine = Engine(_adapter(model, processor, known), method, share=False)
    reduced = Reduced(engine.reducer, model.config)
    reducing = _Reducing(engine, question, reduced)
    with contextlib.ExitStack() as stack:
        _OPEN.add(model)
        stack.callback(_OPEN.discard, model)
        if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
            for handle in bridge(model):
                stack.callback(handle.remove)
        stack.callback(reducing.end)
        stack.callback(model.register_forward_pre_hook(reducing.before, with_kwargs=True).remove)
        stack.callback(model.register_forward_hook(reducing.after).remove)
        stack.enter_context(through(model, reducing.ask))
        yield reduced


def _adapter(model: Any, processor: Any, known: Known) -> ModelAdapter:
    for part in ("tokenizer", "image_processor"):
        if not hasattr(processor, part):
            raise ParbenchError(
                f"the processor is a {type(processor).__name__}, which has no {part}: give the model's AutoProcessor, which reads "
                "text and images"
            )
    held, clip = _CLIPS.setdefault(model, {}), known.clip
    if clip is None:
        return ModelAdapter(model, processor, name=known.name, folder=known.folder, lora=known.lora)

    def clip_space(tower: Any) -> ClipSpace:
        key = (clip, adapter.device, adapter.dtype)
        if key not in held:
            held[key] = load_clip(clip.path, clip.revision, tower, adapter.device, adapter.dtype, known.folder)
        return held[key]

    adapter = ModelAdapter(model, processor, name=known.name, folder=known.folder, clip=clip_space, lora=known.lora)
    return adapter


class _Reducing:
    """The hooks around a model's forward: they shorten the prompt at prefill, and then supply the matching mask and positions.

    Args:
        engine: The model with the method.
        question: As given to :func:`reduce`.
        reduced: Receives the results.
    """

    def __init__(self, engine: Engine, question: str | Sequence[str] | None, reduced: Reduced) -> None:
        self.engine, self.question, self.reduced = engine, question, reduced
        self.find_question = QuestionFinder(engine.adapter)
        self.call: Call | None = None
        self.asked = Generation()
        self.signature = inspect.signature(type(engine.adapter.model).forward)

    def ask(self, generation: Generation) -> None:
        """Set the generation settings that hold from now on."""
        self.asked = generation

    def before(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        """Forward pre-hook: replaces the model's arguments by the reduced ones."""
        bound = self.signature.bind(model, *args, **kwargs).arguments
        given = {name: value for name, value in bound.items() if name not in ("self", "kwargs")} | bound.get("kwargs", {})
        for name, why in _REFUSED.items():
            value = given.get(name)
            # If nothing was encoded before, generate passes an empty mapping.
            if value is not None and not (isinstance(value, dict) and not value):
                raise ParbenchError(f"the model was given {name} inside parbench.reduce: {why}")
        cache = self._cache(given.get("past_key_values"))
        if cache.get_seq_length() == 0:
            return (), self._accepted({**given, **self._prefill(given).begin(cache)})
        if self.call is None or cache is not self.call.cache:
            raise ParbenchError(
                "the model was given a cache that does not belong to the last prompt inside this block of parbench.reduce: begin "
                "with the prompt"
            )
        ids = given["input_ids"]
        # A model may generate the placeholder itself, one token at a time. It stands for no image then.
        if ids.shape[1] > 1 and bool((ids == self.engine.adapter.image_token_id).any()):
            raise ParbenchError("the model was given an image after its prompt: give the whole conversation in one prompt")
        return (), self._accepted({**given, **self.call.go_on(ids)})

    def _accepted(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments without those that are empty and not the model's."""
        return {name: value for name, value in given.items() if value is not None or name in self.signature.parameters}

    def _cache(self, given: Any) -> Any:
        from transformers import DynamicCache

        if given is None:
            return DynamicCache(config=self.engine.adapter.language.config)
        if not isinstance(given, DynamicCache):
            raise ParbenchError(f"the model was given a {type(given).__name__}: inside parbench.reduce it has to be a DynamicCache")
        return given

    def _prefill(self, given: dict[str, Any]) -> Call:
        self.rest()
        adapter = self.engine.adapter
        given = {**given, **self.asked.inputs}
        vision = {name: value for name in VISION_INPUTS if (value := given.get(name)) is not None}
        rows, padding = unpadded(given["input_ids"], given.get("attention_mask"))
        copies = self.asked.copies
        images = adapter.family.separate(vision, rows[::copies]) if "pixel_values" in vision else []
        runs = [image.tokens.runs for image in images]
        prompts = take_apart(rows, padding, adapter.image_token_id, runs, copies)
        self.call = Call(self.engine, prompts, self._questions(prompts.ids), images)
        return self.call

    def _questions(self, prompts: Sequence[Tensor]) -> list[str]:
        if self.question is None:
            return [self.find_question(ids) for ids in prompts]
        if isinstance(self.question, str):
            return [self.question] * len(prompts)
        given = [one for one in self.question for _ in range(self.asked.copies)]
        if len(given) != len(prompts):
            raise ParbenchError(f"question names {len(self.question)} questions for {len(prompts) // self.asked.copies} prompts")
        return given

    def after(self, _model: Any, _args: Any, _output: Any) -> None:
        """Forward hook: after a prefill, check the number of kept tokens and record the results."""
        if self.call is not None and not self.call.finished:
            self.call.answers()
            self.call.finished = True
            self.reduced.follow(self.call)

    def rest(self) -> None:
        """Free the last batch."""
        call, self.call = self.call, None
        if call is not None:
            call.close()
            if call.finished:
                self.reduced.rest()

    def end(self) -> None:
        """Remove the hooks from the LLM."""
        self.rest()
