"""What a load is: checked before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from runmgr.exceptions import UserError
from runmgr.load.arrivals import Arrival, Rates, check_shape
from runmgr.load.measures import DEFS, Defs
from runmgr.load.slo import Objective
from runmgr.load.sweep import Sweep
from runmgr.models.sim_config import Distribution

__all__ = ("DEFAULT_SECONDS", "LoadConfig", "Weighted", "parse_weighted")

DEFAULT_SECONDS = 30.0
"""How long a load without ``duration`` and ``requests`` sends."""

SWEEP_SECONDS = 10.0
"""How long a sweep sends at each rate, unless told otherwise."""


class Weighted(NamedTuple):
    """One of several sources.

    Args:
        name: a file, or ``module:name`` of an agent.
        weight: how often it is drawn, beside the others.
    """

    name: str
    weight: float = 1.0


def _weighted(given: Path | str | Iterable[Weighted] | None) -> tuple[Weighted, ...]:
    if given is None:
        return ()
    if isinstance(given, Path | str):
        return (Weighted(str(given)),)
    return tuple(given)


def parse_weighted(text: str, option: str) -> Weighted:
    """``NAME`` or ``NAME=WEIGHT``.

    Raises:
        UserError: the weight is none.
    """
    name, sign, weight = text.rpartition("=")
    if not sign or Path(text).exists():
        return Weighted(text)
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not name or not 0 < value < math.inf:
        raise UserError(f"{option} {text}: NAME=WEIGHT with a weight above zero is needed, e.g. chat.jsonl=3")
    return Weighted(name, value)


@attrs.frozen(kw_only=True)
class LoadConfig:
    """A load.

    Args:
        base_url: the server, with its ``/v1``.
        model: ``openai:NAME``; with an agent, any model string, which replaces its own.
        rates: requests a second (open loop).
        concurrency: requests in flight (closed loop).
        trace: a file of recorded arrivals.
        sweep: between which rates to search for the highest that meets the objectives.
        arrival: how arrivals are spread.
        burstiness: of gamma arrivals.
        time_scale: multiplies a trace's times.
        length_scale: multiplies a trace's lengths.
        duration: seconds of sending, the warm-up among them.
        requests: how many requests.
        prompts: a file of prompts, or several with their weights.
        input_tokens: length of synthetic prompts.
        turns: turns of synthetic conversations.
        think: seconds between an answer and the next turn.
        tokenizer: counts tokens where the provider gives no usage: a ``tokenizer.json``, or ``module:name``.
        output_tokens: limit on answers.
        prefix_tokens: tokens that all synthetic prompts begin with.
        agent: ``module:name``: whole runs instead of requests; several with their weights.
        warmup: seconds whose requests are counted in no figure.
        cooldown: seconds at the end of sending whose requests are counted in none either.
        objectives: service levels.
        defs: whose definitions.
        out: the results directory.
        seed: of arrivals, prompts and lengths.
        timeout: seconds that one request may take.
        fields: more fields of the request's body.
        processes: how many processes send.
        calibrate: whether the client is measured first.
        record_chunks: whether ``requests.jsonl`` says when each piece arrived.
        cluster: with agents: where their runs are worked on instead of in this process: a `runmgr.cluster.RayCluster`.
        max_failures: share or number of failed requests from which the exit code is 1.

    Raises:
        UserError: two things that exclude each other, or a value that cannot be.
    """

    base_url: str | None = None
    model: str | None = None
    rates: Rates | None = None
    concurrency: int | None = None
    trace: Path | None = None
    sweep: Sweep | None = None
    arrival: Arrival = "constant"
    burstiness: float = 1.0
    time_scale: float = 1.0
    length_scale: float = 1.0
    duration: float | None = None
    requests: int | None = None
    prompts: tuple[Weighted, ...] = attrs.field(default=(), converter=_weighted)
    input_tokens: Distribution | None = None
    turns: Distribution | None = None
    think: Distribution | None = None
    tokenizer: str | None = None
    output_tokens: Distribution | None = None
    prefix_tokens: int = 0
    agent: tuple[Weighted, ...] = attrs.field(default=(), converter=_weighted)
    warmup: float = 0.0
    cooldown: float = 0.0
    objectives: tuple[Objective, ...] = ()
    defs: Defs = "runmgr"
    out: Path | None = None
    seed: int = 0
    timeout: float = 600.0
    fields: dict[str, Any] = attrs.field(factory=dict[str, Any])
    processes: int = 1
    calibrate: bool = False
    record_chunks: bool = False
    max_failures: str | None = None
    cluster: Any = None

    def __attrs_post_init__(self) -> None:
        self._check_shape()
        self._check_work()
        for name, value, least in (
            ("--concurrency", self.concurrency, 1),
            ("--requests", self.requests, 1),
            ("--processes", self.processes, 1),
            ("--prefix-tokens", self.prefix_tokens, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"{name} {value}: at least {least} is needed")
        for name, value in (
            ("--duration", self.duration),
            ("--timeout", self.timeout),
            ("--time-scale", self.time_scale),
            ("--length-scale", self.length_scale),
        ):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} {value:g}: a number above zero is needed")
        if not 0 <= self.warmup < math.inf:
            raise UserError(f"--warmup {self.warmup:g}: seconds from 0 up are needed")
        seconds = self.sending_seconds
        if not 0 <= self.cooldown < math.inf:
            raise UserError(f"--cooldown {self.cooldown:g}: seconds from 0 up are needed")
        if self.cooldown and seconds is None:
            raise UserError(
                "--cooldown needs --duration: it is the end of the sending, which is not known otherwise"
            )
        if seconds is not None and self.cooldown and self.warmup + self.cooldown >= seconds:
            raise UserError(
                f"--warmup {self.warmup:g} and --cooldown {self.cooldown:g} leave nothing of the {seconds:g} s of sending"
            )
        if seconds is not None and self.warmup >= seconds:
            raise UserError(
                f"--warmup {self.warmup:g} leaves nothing of the {seconds:g} s of sending, of which it is a part; "
                "make the load longer"
            )
        if self.defs not in DEFS:
            raise UserError(f"--defs {self.defs}: one of {', '.join(DEFS)} is needed")

    def _check_shape(self) -> None:
        shapes = [
            name
            for name, value in (
                ("--rate", self.rates),
                ("--concurrency", self.concurrency),
                ("--trace", self.trace),
                ("--sweep", self.sweep),
            )
            if value is not None
        ]
        if len(shapes) != 1:
            said = " and ".join(shapes) if shapes else "none"
            raise UserError(
                f"one of --rate, --concurrency, --trace and --sweep is needed to say how to send, not {said}"
            )
        check_shape(self.arrival, self.burstiness)
        if self.rates is not None and not self.rates.constant and self.duration is None:
            raise UserError(
                f"--rate {self.rates}: a rate that changes needs --duration, over which it is spread"
            )

    def _check_work(self) -> None:
        if self.prompts and self.input_tokens is not None:
            raise UserError("--prompts and --input-tokens exclude each other: the prompts have their lengths")
        if self.trace is not None and (self.input_tokens is not None or self.output_tokens is not None):
            raise UserError(
                "--trace has its own lengths: leave out --input-tokens and --output-tokens, or scale with --length-scale"
            )
        if self.turns is not None and (self.prompts or self.trace is not None or self.agent):
            raise UserError(
                "--turns makes conversations of random words: leave out --prompts (whose rows may have turns), --trace and --agent"
            )
        if self.think is not None and (
            self.trace is not None or self.agent or not (self.turns or self.prompts)
        ):
            raise UserError(
                "--think is the time between turns: it goes with --turns, or with --prompts whose rows have turns"
            )
        for option, names in (("--prompts", self.prompts), ("--agent", self.agent)):
            if len({one.name for one in names}) < len(names):
                raise UserError(f"{option}: the same name twice; give it one weight")
        if self.agent:
            if self.tokenizer is not None:
                raise UserError("--tokenizer counts the tokens of requests: leave it out with --agent")
            if not self.prompts:
                raise UserError("--agent needs --prompts FILE: what to run it on")
            if len(self.prompts) not in {1, len(self.agent)}:
                raise UserError("--agent needs one --prompts for all agents, or one for each, in their order")
            if self.trace is not None or self.processes > 1 or self.calibrate:
                raise UserError(
                    "--agent runs with --rate, --concurrency or --sweep, in one process, without --calibrate"
                )
            return
        if self.cluster is not None:
            raise UserError(
                "--ray works on whole runs of an --agent: single requests are sent from this machine, by --processes N where one "
                "is not enough"
            )
        if self.base_url is None:
            raise UserError("--base-url is needed: the server to send to, e.g. http://127.0.0.1:8000/v1")
        if self.model is None:
            raise UserError("--model is needed: openai:NAME, with the name the server knows")
        provider, _, name = self.model.partition(":")
        if provider not in {"openai", "openai-chat"} or not name:
            raise UserError(
                f"--model {self.model}: requests are chat completions of an OpenAI-compatible server, named openai:NAME; "
                "other models are loaded by runs of an --agent"
            )

    @property
    def model_name(self) -> str:
        """The model's name for the provider."""
        return (self.model or "").partition(":")[2]

    @property
    def counted_until(self) -> float:
        """Requests due from this moment on count in no figure: the cool-down."""
        seconds = self.sending_seconds
        return seconds - self.cooldown if self.cooldown and seconds is not None else math.inf

    @property
    def sending_seconds(self) -> float | None:
        """How long it will send, where that is known before."""
        if self.duration is not None:
            return self.duration
        if self.requests is None and self.trace is None:
            return DEFAULT_SECONDS if self.sweep is None else SWEEP_SECONDS
        if (
            self.requests is not None
            and self.rates is not None
            and self.rates.constant
            and self.arrival == "constant"
            and self.turns is None
        ):
            return self.requests / self.rates.values[0]
        return None
