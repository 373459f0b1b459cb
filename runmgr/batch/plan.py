"""From a configuration to what runs: arguments, models and patterns checked and built before any file is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from runmgr.batch.cases import CaseReader, compile_template
from runmgr.batch.config import BatchConfig
from runmgr.batch.directory import Manifest
from runmgr.batch.extract import compile_pattern
from runmgr.batch.inputs import Source, StdinSource, open_source
from runmgr.batch.loading import load_object
from runmgr.batch.scorers import BuiltInScorer, CustomScorer, Scorer, load_scorer
from runmgr.batch.scoring import Scoring
from runmgr.batch.settings import typed_settings
from runmgr.exceptions import UserError

__all__ = ("Plan", "make_plan")


@attrs.frozen(kw_only=True)
class Plan:
    """A batch that is ready to read its input.

    Args:
        agent: what runs.
        options: what each run gives to the agent besides the prompt: model, settings, instructions.
        model: the model that is asked.
        source: the input.
        scoring: what scores.
        manifest: what makes the batch this one.
        reader: makes a reader of cases, for one reading of the input.
    """

    config: BatchConfig
    agent: Any
    options: dict[str, Any]
    model: Any
    source: Source
    scoring: Scoring
    manifest: Manifest
    reader: Callable[[], CaseReader]


def make_plan(config: BatchConfig) -> Plan:
    """Checks all but the input's rows, and builds what runs. Imports the user's modules; sends nothing.

    Raises:
        UserError: an argument, a model or a pattern is wrong.
        InputError: the input cannot be opened.
    """
    extract = None if config.extract is None else compile_pattern(config.extract, "--extract")
    target_extract = (
        None if config.target_extract is None else compile_pattern(config.target_extract, "--target-extract")
    )
    scorers = _scorers(config)
    template = None if config.prompt is None else compile_template(config.prompt)
    source = open_source(config.input)
    model = _model(config)
    agent, options = _agent(config, model)
    asked = model if model is not None else agent.model
    if config.budget_usd is not None:
        _check_price(asked)
    settings = typed_settings(config.settings, asked)
    if settings:
        options["model_settings"] = settings

    def reader() -> CaseReader:
        return CaseReader(
            source,
            prompt_field=config.prompt_field,
            template=template,
            target_field=config.target_field,
            target_extract=target_extract,
            scorers=scorers,
        )

    return Plan(
        config=config,
        agent=agent,
        options=options,
        model=asked,
        source=source,
        scoring=Scoring(scorers, extract=extract, target_extract=target_extract),
        manifest=_manifest(config, agent, settings, scorers, source),
        reader=reader,
    )


def _scorers(config: BatchConfig) -> tuple[Scorer, ...]:
    scorers: list[Scorer] = []
    for spec in config.scorers:
        scorer = (
            load_scorer(spec)
            if isinstance(spec, str)
            else CustomScorer(getattr(spec, "__name__", type(spec).__name__), spec)
        )
        if any(other.name == scorer.name for other in scorers):
            raise UserError(f"--scorer {spec}: there are two scorers of the name {scorer.name!r}")
        if isinstance(scorer, BuiltInScorer) and config.target_field is None:
            raise UserError(
                f"--scorer {scorer.name} needs --target-field: the field with the expected answer"
            )
        scorers.append(scorer)
    return tuple(scorers)


def _model(config: BatchConfig) -> Any:
    """The model to ask, or None where the agent has its own."""
    from runmgr.models import infer_model

    if config.base_url is None:
        return None if config.model is None else infer_model(config.model)
    if not isinstance(config.model, str):
        raise UserError("--base-url goes with --model: it says where that model's provider is")
    base_url = config.base_url
    if not base_url.startswith(("http://", "https://")):
        raise UserError(f"--base-url {base_url}: a URL is needed, e.g. http://127.0.0.1:8000/v1")
    if config.model.partition(":")[0] in {"sim", "test"}:
        raise UserError(f"--base-url has no use with --model {config.model}: that model runs in this process")
    return infer_model(config.model, lambda name: _provider(name, base_url))


def _check_price(model: Any) -> None:
    """A budget in dollars needs a price; better to say so now than when the first request is refused."""
    from runmgr.supervisor.pricing import Prices
    from runmgr.usage import RequestUsage

    if Prices().price(model.system, model.model_name, RequestUsage(input_tokens=1, output_tokens=1)) is None:
        raise UserError(
            f"--budget-usd: what {model.model_name!r} costs is unknown, so no budget in dollars can be kept; "
            "use --budget-tokens"
        )


def _provider(name: str, base_url: str) -> Any:
    from runmgr.providers import infer_provider_class

    provider: Any = infer_provider_class(name)
    return provider(base_url=base_url)


def _agent(config: BatchConfig, model: Any) -> tuple[Any, dict[str, Any]]:
    """What runs, and what each run gives to it."""
    from runmgr.agent import Agent

    if config.agent is None:
        return Agent(model, instructions=config.instructions), {}
    agent: Any = load_object(config.agent, "--agent") if isinstance(config.agent, str) else config.agent
    if not hasattr(agent, "iter"):
        hint = "; is it a function that makes one? Name the agent itself" if callable(agent) else ""
        raise UserError(f"--agent {config.agent}: that is {type(agent).__name__}, an Agent is needed{hint}")
    if model is None and agent.model is None:
        raise UserError(f"--agent {config.agent}: this agent has no model of its own; add --model")
    options: dict[str, Any] = {}
    if model is not None:
        options["model"] = model
    if config.instructions is not None:
        options["instructions"] = config.instructions
    return agent, options


def _manifest(
    config: BatchConfig,
    agent: Any,
    settings: dict[str, Any],
    scorers: tuple[Scorer, ...],
    source: Source,
) -> Manifest:
    from pathlib import Path

    asked = config.model
    return Manifest(
        identity={
            "model": asked
            if isinstance(asked, str) or asked is None
            else f"{asked.system}:{asked.model_name}",
            "agent": config.agent
            if isinstance(config.agent, str) or config.agent is None
            else config.agent.name or "an Agent object",
            "instructions": config.instructions,
            "settings": {
                key: value if isinstance(value, (int, float, str, bool, list, dict)) else str(value)
                for key, value in settings.items()
            },
            "prompt": config.prompt,
            "prompt_field": config.prompt_field,
            "target_field": config.target_field,
            "agent_fingerprint": agent.fingerprint() if config.agent is not None else None,
        },
        scoring={
            "scorers": [
                spec if isinstance(spec, str) else scorer.name
                for spec, scorer in zip(config.scorers, scorers, strict=True)
            ],
            "extract": config.extract,
            "target_extract": config.target_extract,
        },
        input="-" if isinstance(source, StdinSource) else str(Path(source.path).resolve()),
        epochs=config.epochs,
        command=config.command,
    )
