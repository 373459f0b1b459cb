"""A small agent for the supervisor's own tests: a list of steps, each an async function of the run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from runmgr.agent.host import current_host
from runmgr.graph import End
from runmgr.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage, RunUsage


class Step:
    def __init__(self, function):
        self.function = function

    def get_node_id(self):
        return getattr(self.function, "__name__", "step")


class FakeRun:
    """Steps through functions; the value of the last one is the output."""

    def __init__(self, steps, prompt, host):
        self.steps = list(steps)
        self.prompt = prompt
        self.host = host
        self.messages = []
        self.history_epoch = 0
        self.ctx = SimpleNamespace(
            deps=SimpleNamespace(new_message_index=0, run_context=SimpleNamespace(abandoned_threads=[]))
        )
        self.tool_calls = 0
        self.next_node = Step(self.steps.pop(0))
        self.result = None

    async def next(self, node):
        value = await node.function(self)
        if self.steps:
            self.next_node = Step(self.steps.pop(0))
        else:
            self.result = SimpleNamespace(output=value)
            self.next_node = End(value)
        return self.next_node

    async def ask(self, model, text="hi"):
        self.messages.append(ModelRequest(parts=[UserPromptPart(content=text)]))
        response = await self.host.request(model, self.messages, None, None)
        self.messages.append(response)
        return response

    def all_messages(self):
        return self.messages

    def usage(self):
        return RunUsage(tool_calls=self.tool_calls)


class FakeAgent:
    def __init__(self, *steps):
        self.steps = steps

    @asynccontextmanager
    async def iter(self, prompt=None, *, host=None, snapshot=None, **options):
        run = FakeRun(self.steps, prompt, host)
        run.metadata = options.pop("metadata", None)
        options.pop("run_id")
        run.options = options
        run.supervisor = host.supervisor
        current_host.set(host)
        yield run


class CountingModel(FunctionModel):
    """Answers at once and uses the tokens it is told."""

    def __init__(self, input_tokens=3, output_tokens=2, name="counting", fail=None, wait=None):
        async def answer(messages, info):
            raise AssertionError

        super().__init__(answer, model_name=name)
        self.tokens = (input_tokens, output_tokens)
        self.fail = fail or []
        self.wait = wait
        self.sent = 0

    async def request_once(self, messages, settings, params):
        self.sent += 1
        if self.wait is not None:
            await self.wait()
        if self.fail:
            error = self.fail.pop(0)
            if error is not None:
                raise error
        return ModelResponse(
            parts=[TextPart(content="fine")],
            usage=RequestUsage(input_tokens=self.tokens[0], output_tokens=self.tokens[1]),
            model_name=self.model_name,
        )


@pytest.fixture
def fakes():
    return SimpleNamespace(Agent=FakeAgent, Model=CountingModel)
