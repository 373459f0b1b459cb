"""A batch in virtual time: the supervisor that will run it, with a model that takes as long and as much as the samples did."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any, cast

import attrs
import trio
import trio.testing

from runmgr.agent.host import current_host
from runmgr.batch.planning.pilot import Asked, RequestSample, Samples
from runmgr.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    UserPromptPart,
)
from runmgr.models.sim import SimModel
from runmgr.records.definitions import ModelRequestParameters
from runmgr.settings import ModelSettings
from runmgr.supervisor import open_supervisor
from runmgr.supervisor.functions import FunctionAgent
from runmgr.usage import RequestUsage, RunUsage

__all__ = ("Replayed", "replay")

_BYTES_A_TOKEN = 4
_ANSWER: list[ModelResponsePart] = [TextPart("")]


@attrs.frozen
class Replayed:
    """What a simulated batch took.

    Args:
        seconds: of virtual time.
        ended: runs that succeeded.
        usage: of all requests.
        cost: dollars; None where the price is unknown.
    """

    seconds: float
    ended: int
    usage: RunUsage
    cost: Any


class _ReplayModel(SimModel):
    """Answers as the samples did; to the supervisor it is the model that will be asked, at its price."""

    def __init__(self, asked: Any) -> None:
        super().__init__()
        self._asked = asked
        self.price_share: Decimal | None = getattr(asked, "price_share", None)

    @property
    def model_name(self) -> str:
        return self._asked.model_name

    @property
    def system(self) -> str:
        return self._asked.system

    @property
    def base_url(self) -> str | None:
        return self._asked.base_url

    async def request_once(
        self,
        messages: list[ModelMessage],  # noqa: ARG002
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,  # noqa: ARG002
    ) -> ModelResponse:
        sample = cast("dict[str, RequestSample]", model_settings)["replayed"]
        await trio.sleep(sample.seconds)
        usage = RequestUsage(input_tokens=sample.input_tokens, output_tokens=sample.output_tokens)
        return ModelResponse(parts=_ANSWER, usage=usage)


def _as_sampled(samples: Samples, rng: random.Random) -> FunctionAgent:
    """Each run is one of the samples' runs, drawn."""
    models = {id(asked.model): _ReplayModel(asked.model) for asked in samples.asked}
    known: list[tuple[list[RequestSample], Asked]] = list(zip(samples.runs, samples.asked, strict=True))
    # of a pilot, a bootstrap sample
    runs = rng.choices(known, k=len(known)) if samples.pilot else known

    async def go(number: int) -> None:
        host: Any = current_host.get()
        requests, asked = rng.choice(runs) if samples.pilot else runs[number % len(runs)]
        await trio.sleep(asked.seconds)
        settings: dict[str, Any] = {} if asked.max_tokens is None else {"max_tokens": asked.max_tokens}
        for sample in requests:
            text = "x" * (sample.input_tokens * _BYTES_A_TOKEN)
            messages = [ModelRequest(parts=[UserPromptPart(content=text)])]
            await host.request(models[id(asked.model)], messages, {**settings, "replayed": sample}, None)

    return FunctionAgent(go, name="plan")


def replay(samples: Samples, runs: int, seed: int, *, max_running: int, **options: Any) -> Replayed:
    """Run a batch in virtual time; blocks for some tenths of a millisecond a run.

    Args:
        samples: what runs take.
        runs: how many.
        seed: of what is drawn.
        max_running: as of the batch.
        options: as `open_supervisor` takes them.
    """
    rng = random.Random(seed)

    async def main() -> Replayed:
        agent = _as_sampled(samples, rng)
        ended = 0
        began = trio.current_time()
        async with (
            open_supervisor(
                max_running=max_running,
                max_queued=max(1, min(max_running, 1000)),
                rng=rng,
                remember=0,
                **options,
            ) as sup,
            sup.map(agent, range(runs)) as outcomes,
        ):
            async for outcome in outcomes:
                ended += outcome.succeeded
            return Replayed(trio.current_time() - began, ended, sup.usage(), sup.cost())

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
