"""What a batch is asked to do, as plain values: what the command's options say, and what Python callers write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from runmgr.exceptions import UserError
from runmgr.report.reducers import check_reducers

__all__ = ("BatchConfig", "FailureLimit", "parse_failure_limit")


@attrs.frozen
class FailureLimit:
    """How many runs may fail before a batch stops.

    Args:
        count: that many, or None.
        share: that part of all runs (0.05 is 5 %), or None.
    """

    count: int | None = None
    share: float | None = None

    def allowed(self, total: int | None, ended: int) -> int:
        """How many failures are still within the limit.

        Args:
            total: all runs of the batch; None while that is unknown (standard input).
            ended: runs that have ended so far; a share of an unknown total is taken of these, with 20 at least.
        """
        if self.count is not None:
            return self.count
        return int(Fraction(str(self.share)) * (max(ended, 20) if total is None else total))


def parse_failure_limit(text: str | float) -> FailureLimit:
    """``10`` or ``5%``.

    Raises:
        UserError: it is neither.
    """
    word = str(text).strip()
    try:
        if word.endswith("%"):
            share = float(word[:-1]) / 100
            if 0 <= share <= 1:
                return FailureLimit(share=share)
        elif int(word) >= 0:
            return FailureLimit(count=int(word))
    except ValueError:
        pass
    raise UserError(f"--max-failures {word}: a number of runs (10) or a share of them (5%) is needed")


def _alone(value: Any) -> Any:
    """A list of one as that one; none at all as None."""
    if isinstance(value, (list, tuple)):
        several: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        return several[0] if len(several) == 1 else tuple(several) or None
    return value


def _checked_number(option: str, *, least: float, above: bool = False) -> Any:
    def check(_config: Any, _attribute: Any, value: float | None) -> None:
        if value is not None and (value <= least if above else value < least):
            kind = "more than" if above else "at least"
            raise UserError(f"--{option} {value}: must be {kind} {least:g}")

    return check


def _default_running(config: Any) -> int:
    if config.cluster is not None:
        return config.cluster.places
    return 20_000 if config.via_batch_api else 100


@attrs.frozen(kw_only=True)
class BatchConfig:
    """A batch. Every field but ``input`` has a default; ``model`` or ``agent`` is needed.

    Args:
        input: a file of cases (its ending names the format), several files and patterns, ``-`` for JSONL on standard input; or rows: a list
            of mappings, a `Dataset`, a Hugging Face dataset.
        model: a model string, e.g. ``openai:gpt-4.1``, or a `Model`; or several: each case is run with each.
        agent: ``module:name`` of an agent, or an `Agent`; with ``model`` too, that model replaces the agent's own. Also a function of
            the prompt (sync or async), or a `Graph` whose first node is made of the prompt.
        base_url: where the model's provider is, instead of its usual address.
        instructions: for the model; with an agent, in addition to its own.
        settings: model settings as text (what ``--set`` takes) or typed; several values (``'0,0.7'``, ``[0, 0.7]``) are a matrix.
        prompt_field: the field of a row that is the prompt; by default ``prompt``, ``input`` or ``question``.
        prompt: a Jinja template of the prompt over a row's fields, instead.
        chat: a JSON file of messages, or the messages: ``[{"role", "content"}]`` with templates as contents, instead.
        image_field: the field that names an image, or a list of them, by path or URL; shown after the prompt.
        few_shot: a file of rows with targets, shown before each case as questions and answers.
        shots: only the first so many of them.
        where: a Jinja expression over a row's fields; only rows for which it holds are cases.
        offset: leaves out the first so many cases.
        sample: only so many cases, drawn by ``seed``.
        seed: of the sample.
        target_field: the field that holds the expected answer.
        extract: a pattern that takes the answer out of the output before scoring (last match; its first group if it has any).
        target_extract: the same for the target.
        scorers: ``exact``, ``includes``, ``numeric``, ``regex``, ``module:name``, or callables.
        out: the results directory; None makes ``runs/<time>``.
        journal: the journal's file; None is ``journal.sqlite`` in the results directory.
        cluster: where runs are worked on instead of in this process: a `runmgr.cluster.RayCluster`. Scorers are called here.
        max_running: runs at once; 100, with a ``cluster`` as many as that has places, or with ``via_batch_api`` 20,000 where not given (some 11 KB each while they wait).
        rpm: requests a minute for the model.
        tpm: tokens a minute for the model.
        budget_usd: US dollars, over all resumes.
        budget_tokens: tokens, over all resumes.
        cache: an SQLite file that answers what was answered before; never between epochs.
        timeout: seconds a run.
        retries: resends of one request.
        epochs: how often each case is run.
        reducers: ``mean``, ``mode``, ``max``, ``pass@K``: the epochs of a case as one score, for the summary.
        limit: only the first so many cases (after ``where`` and ``offset``, before ``sample``).
        max_failures: ``10`` or ``5%``: passing it stops the batch, staying under it is success.
        resume: go on from what the results directory holds; where it holds nothing, start.
        retry_failed: with ``resume``: run failed and cancelled runs again.
        via_batch_api: ask by way of the provider's batch API: at half the price, within hours.
        poll: with ``via_batch_api``: seconds between two looks at a provider's batch, at most.
        report: write ``report.html``.
        command: the command line to resume with, as words, for the journal of the batch.

    Raises:
        UserError: a number is out of range.
    """

    input: Any
    model: Any = attrs.field(default=None, converter=_alone)  # pyright: ignore[reportUnknownVariableType]
    agent: Any = None
    base_url: str | None = None
    instructions: str | None = None
    settings: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    prompt_field: str | None = None
    prompt: str | None = None
    chat: Any = None
    image_field: str | None = None
    few_shot: Any = None
    shots: int | None = attrs.field(default=None, validator=_checked_number("shots", least=1))
    where: str | None = None
    offset: int = attrs.field(default=0, validator=_checked_number("offset", least=0))
    sample: int | None = attrs.field(default=None, validator=_checked_number("sample", least=1))
    seed: int = 0
    target_field: str | None = None
    extract: str | None = None
    target_extract: str | None = None
    scorers: Sequence[Any] = ()
    out: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    journal: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    via_batch_api: bool = False
    cluster: Any = None
    poll: float | None = attrs.field(default=None, validator=_checked_number("poll", least=0, above=True))
    max_running: int = attrs.field(
        default=attrs.Factory(_default_running, takes_self=True),
        validator=_checked_number("max-running", least=1),
    )
    rpm: float | None = attrs.field(default=None, validator=_checked_number("rpm", least=0, above=True))
    tpm: float | None = attrs.field(default=None, validator=_checked_number("tpm", least=0, above=True))
    budget_usd: float | str | None = None
    budget_tokens: int | None = attrs.field(default=None, validator=_checked_number("budget-tokens", least=0))
    cache: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    timeout: float | None = attrs.field(
        default=None, validator=_checked_number("timeout", least=0, above=True)
    )
    retries: int = attrs.field(default=8, validator=_checked_number("retries", least=0))
    epochs: int = attrs.field(default=1, validator=_checked_number("epochs", least=1))
    reducers: Sequence[str] = ()
    limit: int | None = attrs.field(default=None, validator=_checked_number("limit", least=1))
    max_failures: str | int | None = None
    resume: bool = False
    retry_failed: bool = False
    report: bool = True
    command: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        ways = [
            option
            for option, value in (
                ("--prompt", self.prompt),
                ("--prompt-field", self.prompt_field),
                ("--chat", self.chat),
            )
            if value is not None
        ]
        if len(ways) > 1:
            raise UserError(
                f"{' and '.join(ways)} are {len(ways)} ways to say the same: give one of them".replace(
                    "are 2", "are two"
                )
            )
        if self.few_shot is not None and self.target_field is None:
            raise UserError("--few-shot needs --target-field: it is the answer that is shown")
        if self.shots is not None and self.few_shot is None:
            raise UserError("--shots goes with --few-shot FILE")
        check_reducers(self.reducers, self.epochs)
        if self.model is None and self.agent is None:
            raise UserError(
                "--model is needed (e.g. --model openai:gpt-4.1-mini, --model sim:), or --agent module:name"
            )
        if self.retry_failed and not self.resume:
            raise UserError("--retry-failed goes with --resume: there is nothing to run again without it")
        if self.via_batch_api and self.cluster is not None:
            raise UserError(
                "--ray does not go with --via-batch-api: the provider works on the batch, not workers"
            )
        if self.via_batch_api:
            for option, value in (
                ("--timeout", self.timeout),
                ("--rpm", self.rpm),
                ("--tpm", self.tpm),
            ):
                if value is not None:
                    raise UserError(
                        f"{option} does not go with --via-batch-api: the provider works through a batch at its own pace, within 24 hours"
                    )
        elif self.poll is not None:
            raise UserError("--poll goes with --via-batch-api")
        if self.target_extract is not None and self.target_field is None:
            raise UserError("--target-extract needs --target-field: it says where the targets are")
        if self.budget_usd is not None:
            _checked_number("budget-usd", least=0)(self, None, float(self.budget_usd))
        if self.max_failures is not None:
            parse_failure_limit(self.max_failures)

    @property
    def failure_limit(self) -> FailureLimit | None:
        """``max_failures`` parsed, or None."""
        return None if self.max_failures is None else parse_failure_limit(self.max_failures)
