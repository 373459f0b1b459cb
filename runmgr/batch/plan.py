"""From a configuration to what runs: arguments, models and patterns checked and built before any file is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs

from runmgr.batch.cases import CaseReader, compile_template, compile_where, target_texts
from runmgr.batch.config import BatchConfig
from runmgr.batch.directory import Manifest
from runmgr.batch.extract import compile_pattern
from runmgr.batch.inputs import FileSource, FilesSource, RowsSource, Source, StdinSource, open_sources
from runmgr.batch.loading import load_object
from runmgr.batch.model import has_price, model_of
from runmgr.batch.scan import Selection
from runmgr.batch.scorers import BuiltInScorer, CustomScorer, Judge, PairwiseJudge, Scorer, load_scorer
from runmgr.batch.scoring import Scoring
from runmgr.batch.variants import Variant, combinations, names_of
from runmgr.exceptions import UserError

__all__ = ("Plan", "make_plan", "make_scoring")


@attrs.frozen(kw_only=True)
class Plan:
    """A batch that is ready to read its input.

    Args:
        agent: what runs.
        variants: the matrix; one where there is none.
        source: the input.
        scoring: what scores.
        manifest: what makes the batch this one.
        reader: makes a reader of cases, for one reading of the input.
        selection: which rows are cases.
    """

    config: BatchConfig
    agent: Any
    variants: tuple[Variant, ...]
    source: Source
    scoring: Scoring
    manifest: Manifest
    reader: Callable[[], CaseReader]
    selection: Selection


def make_plan(config: BatchConfig) -> Plan:
    """Checks all but the input's rows, and builds what runs. Imports the user's modules; sends nothing.

    Raises:
        UserError: an argument, a model or a pattern is wrong.
        InputError: the input cannot be opened.
    """
    scoring, scorers = make_scoring(
        config.scorers, config.extract, config.target_extract, has_targets=config.target_field is not None
    )
    template: Any = None if config.prompt is None else compile_template(config.prompt)
    if config.chat is not None:
        from runmgr.batch.chat import load_chat

        template = load_chat(config.chat, compile_template)
    where = None if config.where is None else compile_where(config.where)
    source = open_sources(config.input)
    if config.sample is not None and isinstance(source, StdinSource):
        raise UserError("--sample needs a file: standard input is read once, as it comes")
    models = _models(config)
    agent = _agent(config, models[0])
    asked = [agent.model if model is None else model for model in models]
    if config.budget_usd is not None:
        for model in asked:
            _check_price(model)
    settings = [combinations(config.settings, model) for model in asked]
    shots = _shots(config, template)
    target_extract = (
        None if config.target_extract is None else compile_pattern(config.target_extract, "--target-extract")
    )

    def reader() -> CaseReader:
        return CaseReader(
            source,
            prompt_field=config.prompt_field,
            template=template,
            image_field=config.image_field,
            where=where,
            folder=_folder(source),
            shots=shots,
            target_field=config.target_field,
            target_extract=target_extract,
            scorers=scorers,
        )

    identity = _identity(config, agent, shots)
    variants = _variants(config, identity, models, asked, settings)
    if config.via_batch_api:
        variants = _via_batches(config, variants)
    return Plan(
        config=config,
        agent=agent,
        variants=variants,
        source=source,
        scoring=scoring,
        manifest=_manifest(config, identity, variants, scorers, source),
        reader=reader,
        selection=Selection(config.offset, config.limit, config.sample, config.seed),
    )


def make_scoring(
    specs: Any, extract: str | None, target_extract: str | None, *, has_targets: bool
) -> tuple[Scoring, tuple[Scorer, ...]]:
    """What scores, of the words that name it.

    Raises:
        UserError: a scorer or a pattern is wrong, or needs targets where there are none.
    """
    found = _scorers(specs, has_targets=has_targets)
    return Scoring(
        found,
        extract=None if extract is None else compile_pattern(extract, "--extract"),
        target_extract=None
        if target_extract is None
        else compile_pattern(target_extract, "--target-extract"),
    ), found


def _scorers(specs: Any, *, has_targets: bool) -> tuple[Scorer, ...]:
    scorers: list[Scorer] = []
    for spec in specs:
        if isinstance(spec, str):
            scorer = load_scorer(spec)
        elif isinstance(spec, (BuiltInScorer, CustomScorer, Judge, PairwiseJudge)):
            scorer = spec
        else:
            scorer = CustomScorer(getattr(spec, "__name__", type(spec).__name__), spec)
        if any(other.name == scorer.name for other in scorers):
            raise UserError(
                f"--scorer {spec}: there are two scorers of the name {scorer.name!r}; as=NAME gives one another"
            )
        if not has_targets and (isinstance(scorer, BuiltInScorer) or scorer.needs_target):
            raise UserError(
                f"--scorer {scorer.name} needs --target-field: the field with the expected answer"
            )
        if isinstance(scorer, (Judge, PairwiseJudge)):
            scorer.prepare()
        scorers.append(scorer)
    return tuple(scorers)


def _models(config: BatchConfig) -> list[Any]:
    """The models to ask; one None where the agent has its own."""
    if config.model is None:
        if config.base_url is not None:
            raise UserError("--base-url goes with --model: it says where that model's provider is")
        return [None]
    several = _several(config.model)
    return [model_of(model, config.base_url) for model in several]


def _several(model: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", model) if isinstance(model, tuple) else (model,)


def _check_price(model: Any) -> None:
    """A budget in dollars needs a price; better to say so now than when the first request is refused."""
    if not has_price(model):
        raise UserError(
            f"--budget-usd: what {model.model_name!r} costs is unknown, so no budget in dollars can be kept; "
            "use --budget-tokens"
        )


def _agent(config: BatchConfig, model: Any) -> Any:
    """What runs."""
    from runmgr.agent import Agent

    if config.agent is None:
        return Agent(model, instructions=config.instructions)
    named = config.agent
    agent: Any = load_object(named, "--agent") if isinstance(named, str) else named
    if not hasattr(agent, "iter") or hasattr(agent, "node_defs"):
        from runmgr.batch.callables import as_agent

        agent = as_agent(
            agent, named if isinstance(named, str) else getattr(named, "__name__", type(named).__name__)
        )
        if model is not None or config.settings or config.instructions is not None:
            raise UserError(
                f"--agent {config.agent}: a function or a graph takes no --model, --set or --instructions"
            )
    elif model is None and agent.model is None:
        raise UserError(f"--agent {config.agent}: this agent has no model of its own; add --model")
    return agent


def _variants(
    config: BatchConfig,
    identity: dict[str, Any],
    models: list[Any],
    asked: list[Any],
    settings: list[list[dict[str, Any]]],
) -> tuple[Variant, ...]:
    several = _several(config.model)
    labels = names_of(several, settings)
    found: list[Variant] = []
    for number, model in enumerate(models):
        for label, each in zip(labels[number], settings[number], strict=True):
            options: dict[str, Any] = {}
            if model is not None and (config.agent is not None or len(models) > 1):
                options["model"] = model
            if config.agent is not None and config.instructions is not None:
                options["instructions"] = config.instructions
            if each:
                options["model_settings"] = each
            own = {**identity, "model": _named(several[number]), "settings": _plain_settings(each)}
            found.append(Variant(label=label, options=options, model=asked[number], identity=own))
    return tuple(found)


def _via_batches(config: BatchConfig, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """Each combination with its model asked by way of the provider's batches.

    Raises:
        UserError: a model has no batch API.
    """
    from runmgr.batch.provider_batches import ProviderBatchModel

    wrapped: dict[int, ProviderBatchModel] = {}
    found: list[Variant] = []
    for variant in variants:
        if variant.model is None:
            raise UserError(f"--via-batch-api: {config.agent} asks no model that a batch could ask for it")
        key = id(variant.model)
        if key not in wrapped:
            wrapped[key] = ProviderBatchModel(_resolved(variant.model))
        model = wrapped[key]
        found.append(attrs.evolve(variant, model=model, options={**variant.options, "model": model}))
    return tuple(found)


def _resolved(model: Any) -> Any:
    from runmgr.models import infer_model

    return infer_model(model)


def _named(model: Any) -> str | None:
    return model if isinstance(model, str) or model is None else f"{model.system}:{model.model_name}"


def _plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, (int, float, str, bool, list, dict)) else str(value)
        for key, value in settings.items()
    }


def _folder(source: Source) -> Path | None:
    if isinstance(source, FileSource):
        return source.path.parent
    return source.files[0].path.parent if isinstance(source, FilesSource) else None


def _shots(config: BatchConfig, template: Any) -> tuple[dict[str, Any], ...]:
    """The examples as messages: a question and its answer each.

    Raises:
        InputError: the file is wrong; names the line.
    """
    if config.few_shot is None:
        return ()
    source = open_sources(config.few_shot)
    if isinstance(source, StdinSource):
        raise UserError("--few-shot -: a file is needed")
    reader = CaseReader(
        source, prompt_field=config.prompt_field, template=template, target_field=config.target_field
    )
    found: list[dict[str, Any]] = []
    for number, (row, fields) in enumerate(source.rows()):
        if number == config.shots:
            break
        case = reader.read(row, fields)
        asked = case.prompt if isinstance(case.prompt, str) else case.prompt[-1]["content"]
        answer = target_texts(case.target)[0]
        found += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return tuple(found)


def _identity(config: BatchConfig, agent: Any, shots: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """What makes a run the same run, besides its model and settings; what is not used is left out, so that old batches stay what they are."""
    found: dict[str, Any] = {
        "model": None,
        "agent": config.agent
        if isinstance(config.agent, str) or config.agent is None
        else getattr(agent, "name", None) or "an Agent object",
        "instructions": config.instructions,
        "settings": {},
        "prompt": config.prompt,
        "prompt_field": config.prompt_field,
        "target_field": config.target_field,
        "agent_fingerprint": agent.fingerprint() if config.agent is not None else None,
    }
    if config.chat is not None:
        found["chat"] = config.chat if isinstance(config.chat, str) else "messages"
    if config.image_field is not None:
        found["image_field"] = config.image_field
    if shots:
        found["few_shot"] = hashlib.blake2b(repr(shots).encode(), digest_size=8).hexdigest()
    return found


def _manifest(
    config: BatchConfig,
    identity: dict[str, Any],
    variants: tuple[Variant, ...],
    scorers: tuple[Scorer, ...],
    source: Source,
) -> Manifest:
    whole = dict(variants[0].identity)
    if len(variants) > 1:
        models = _several(config.model)
        whole = {
            **identity,
            "model": ", ".join(str(_named(model)) for model in models) if models[0] is not None else None,
            "settings": {key: _axis(value) for key, value in config.settings.items()},
        }
    return Manifest(
        identity=whole,
        variants=[variant.identity for variant in variants] if len(variants) > 1 else [],
        labels=[variant.label for variant in variants] if len(variants) > 1 else [],
        scoring={
            "scorers": [
                spec if isinstance(spec, str) else scorer.name
                for spec, scorer in zip(config.scorers, scorers, strict=True)
            ],
            "extract": config.extract,
            "target_extract": config.target_extract,
        },
        selection={
            key: value
            for key in ("where", "offset", "limit", "sample", "seed", "image_field", "chat", "reducers")
            if (value := getattr(config, key)) and (isinstance(value, (str, int)) or key == "reducers")
        },
        input=_input_name(source),
        epochs=config.epochs,
        command=config.command,
    )


def _axis(value: Any) -> Any:
    return ",".join(map(str, cast("list[Any]", value))) if isinstance(value, (list, tuple)) else value


def _input_name(source: Source) -> str:
    if isinstance(source, FileSource):
        return str(source.path.resolve())
    if isinstance(source, FilesSource):
        return "\n".join(str(file.path.resolve()) for file in source.files)
    return source.name if isinstance(source, RowsSource) else "-"
