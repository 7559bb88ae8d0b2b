"""From a sweep and its options to its plan: what is left open is decided, before anything is started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rayfit.config import Options
from rayfit.decoding import Decoding
from rayfit.errors import RayfitError
from rayfit.plan.cards import Card, check_cards, find_cards, seem_there
from rayfit.plan.contexts import given_prompts
from rayfit.plan.declaration import Sweep
from rayfit.plan.grid import grid, overruled
from rayfit.plan.measurements import EvaluationSettings
from rayfit.plan.placement import placement_of, products_of
from rayfit.plan.plan import NOT_HASHED, Plan
from rayfit.plan.precision import Precision, resolve_precision
from rayfit.plan.sources import (
    ModelSource,
    TextSource,
    known_files,
    model_files,
    resolve_model,
    resolve_text,
)
from rayfit.plan.trials import Domain, TextSettings
from rayfit.presets import EVALUATION_SIZES
from rayfit.records.storage import Storage

DEFAULT_MODEL = "pydoc-1m"
DEFAULT_NEW_TOKENS = 96

_Named = TypeVar("_Named", ModelSource, TextSource)


def make_plan(sweep: Sweep, given: Options, storage: Storage, cards: tuple[Card, ...] = ()) -> Plan:
    """Decide everything that the options leave open; raises RayfitError for what cannot be.

    `cards`: the GPUs, where they were looked at; their memory decides no id.
    """
    options, precision = _decided(sweep, given, storage)
    assert options.model
    models = tuple(resolve_model(name, options.revision, storage) for name in options.model)
    names = options.dataset or (None,)
    texts = _texts(options, names, models[0], storage)
    try:
        eval_texts = _texts(options, options.eval_datasets or (), models[0], storage)
    except RayfitError as error:  # which names the option that most texts come from
        raise RayfitError(str(error).replace("--dataset:", "--eval-datasets:", 1)) from error
    given_names = {
        **_given("--model", options.model, models),
        **_given("--dataset", [name or text.name for name, text in zip(names, texts, strict=True)], texts),
        **_given("--eval-datasets", options.eval_datasets or (), eval_texts),
    }
    domains = tuple(_domain(options, models, text) for text in texts)
    eval_domains = tuple(_domain(options, models, text) for text in eval_texts)
    trials = tuple(grid(sweep, given, options, models, domains))
    return Plan(
        sweep=sweep,
        options=options,
        models=models,
        domains=domains,
        eval_domains=eval_domains,
        trials=trials,
        decodings=_decodings(options),
        evaluation=_evaluation(options, storage),
        placements={
            model.name: placement_of(
                options, model, [trial for trial in trials if trial.model == model], cards
            )
            for model in models
        },
        products=products_of(options),
        given=given_names,
        precision_reason=precision.reason,
        cards=cards,
        overruled=overruled(sweep, given, options),
        prompts=given_prompts(options, (*domains, *eval_domains)),
    )


def plan_with_cards(sweep: Sweep, given: Options, storage: Storage) -> Plan:
    """The plan for who asks for it alone: with this machine's GPUs, where training would be on them and they can be asked.

    Where they cannot, it is that of a launch here, on CPUs; with `--use-gpu` it is for another machine's GPUs.
    """
    plan = make_plan(sweep, given, storage)
    if not plan.options.use_gpu:
        return plan
    try:
        cards = find_cards()
        check_cards(cards, precision=given.precision)
    except RayfitError:
        return plan if given.use_gpu else make_plan(sweep, replace(given, use_gpu=False), storage)
    return make_plan(sweep, given, storage, cards)


def _decided(sweep: Sweep, given: Options, storage: Storage) -> tuple[Options, Precision]:
    """The options with what the sweep, the scale and this machine decide, and the precision with its reason."""
    scale = given.scale
    if scale is None:
        first = (given.model or (DEFAULT_MODEL,))[0]
        scale = resolve_model(first, given.revision, storage).default_scale
    options = sweep.options_at(scale, given)
    validation, contexts = EVALUATION_SIZES[scale]
    use_gpu = seem_there() if options.use_gpu is None else options.use_gpu
    precision = resolve_precision(options.precision, use_gpu=use_gpu)
    options = replace(
        options,
        precision=precision.name,
        use_gpu=use_gpu,
        arms=sweep.chosen_arms(given),
        model=options.model or (DEFAULT_MODEL,),
        decodings=options.decodings or ("greedy",),
        num_new_tokens=options.num_new_tokens or DEFAULT_NEW_TOKENS,
        validation_rows=options.validation_rows or validation,
        contexts=options.contexts or contexts,
    )
    return options, precision


def _evaluation(options: Options, storage: Storage) -> EvaluationSettings:
    assert options.contexts and options.validation_rows
    return EvaluationSettings(
        num_contexts=options.contexts,
        num_validation=options.validation_rows,
        context_length=options.context_length,
        export_dtype=options.export_dtype,
        eval_precision=_eval_precision(options),
        mauve_features=_mauve_features(options, storage),
    )


def _texts(
    options: Options, names: Iterable[str | None], model: ModelSource, storage: Storage
) -> tuple[TextSource, ...]:
    return tuple(resolve_text(name, options.text_column, options.pool, model, storage) for name in names)


def _given(where: str, words: Iterable[str], sources: Iterable[_Named]) -> dict[str, str]:
    """What was said, by the source's name. Raises RayfitError for two of one name: tables could not tell them apart."""
    found: dict[str, str] = {}
    for word, source in zip(words, sources, strict=True):
        if source.name in found:
            raise RayfitError(f"{where}: {found[source.name]} and {word} are both called {source.name}")
        found[source.name] = word
    return found


def _domain(options: Options, models: tuple[ModelSource, ...], text: TextSource) -> Domain:
    share = options.held_out_share or text.default_held_out_share
    made = next((model.name for model in models if model.kind == "made"), None)
    if made and text.kind == "pydoc" and share > text.default_held_out_share:
        raise RayfitError(
            f"--held-out-share: expected at most {text.default_held_out_share}, the share of {text.name} that "
            f"{made} never saw in its pretraining; got {share}"
        )
    settings = TextSettings(
        span_characters=options.span_characters or text.default_span_characters,
        sequence_length=options.sequence_length,
        held_out_share=share,
    )
    return Domain(text=text, settings=settings)


def _mauve_features(options: Options, storage: Storage) -> str:
    if options.mauve_model is None:
        return ""
    path = Path(options.mauve_model).expanduser()
    if not (path / "config.json").is_file():
        raise RayfitError(f"--mauve-model: {path} is not a Hugging Face model directory (no config.json)")
    return known_files(storage).known(model_files(path)) or NOT_HASHED


def _eval_precision(options: Options) -> str:
    if options.eval_precision != "auto":
        return options.eval_precision
    return "bf16" if options.use_gpu else "fp32"


def _decodings(options: Options) -> tuple[Decoding, ...]:
    assert options.decodings and options.num_new_tokens
    found = tuple(_decoding(name, options.num_new_tokens) for name in options.decodings)
    if len({decoding.name for decoding in found}) < len(found):
        raise RayfitError(
            f"--decodings: the same decoding is given more than once: {', '.join(options.decodings)}"
        )
    if not any(decoding.kind != "matched" for decoding in found):
        raise RayfitError(
            "--decodings: matched is a decoding of the original model alone; give another one beside it"
        )
    return found


def _decoding(text: str, num_new_tokens: int) -> Decoding:
    """A decoding as given; its length is the sweep's, unless the decoding says its own."""
    decoding = Decoding.parse(text)
    return decoding if "num_new_tokens" in text else replace(decoding, num_new_tokens=num_new_tokens)
