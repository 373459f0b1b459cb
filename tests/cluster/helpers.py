"""What the tests of this folder share: a provider that counts, and a network that can be bad."""

import os

import trio

from runmgr import Agent
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage

INPUTS, OUTPUTS = 5, 3
MORE = int(os.environ.get("RUNMGR_FAULTS", "1"))
"""How many times the examples of `make test`: `make nightly` tests by the thousand."""
_PROVIDERS = {}


class Shared:
    """One object for all workers of this process, as there is one provider outside."""

    def __reduce__(self):
        return _same, (id(self),)


class Provider(Shared):
    """A model that counts what it is asked."""

    def __init__(self, seconds):
        self.asked = self.answered = 0
        self.at_once = self.most = 0
        self.times = []
        self._seconds = seconds

    async def __call__(self, messages, info):
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.times.append(trio.current_time())
        try:
            await trio.sleep(self._seconds)
        finally:
            self.at_once -= 1
        self.answered += 1
        return ModelResponse(
            [TextPart(messages[-1].parts[-1].content.upper())],
            usage=RequestUsage(input_tokens=INPUTS, output_tokens=OUTPUTS),
        )


def _same(number):
    return _PROVIDERS[number]


def agent_for(provider):
    _PROVIDERS[id(provider)] = provider
    return Agent(FunctionModel(provider, model_name="loud"), name="shouter")


class Network:
    """What happens to envelopes on their way."""

    def __init__(self, rng, *, delay=0.0, twice=0.0):
        self._rng = rng
        self._delay = delay
        self._twice = twice
        self.cut = set()
        self.to_lose = set()
        """Workers and directions (True: to it) in which the next envelope does not arrive, though those behind it do."""

    async def carry(self, worker, to_worker, data):
        if worker in self.cut:
            await trio.sleep_forever()
        if (worker, to_worker) in self.to_lose:
            self.to_lose.remove((worker, to_worker))
            return []
        if self._delay:
            await trio.sleep(self._rng.random() * self._delay)
        return [data, data] if self._rng.random() < self._twice else [data]


async def breaks(engine, network, faults):
    """Kill workers, cut them off, or lose an envelope to or from them, at the times given."""
    for wait, kind, which in faults:
        await trio.sleep(wait)
        alive = [
            link for name, link in engine.links.items() if not link.ended.is_set() and name not in network.cut
        ]
        if not alive:
            continue
        link = alive[which % len(alive)]
        if kind == "kill":
            link.scope.cancel()
        elif kind == "cut":
            network.cut.add(link.name)
        else:
            network.to_lose.add((link.name, kind == "lose to"))
