"""Agents for the pool's tests: real threads, the real clock, no network."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import trio

from runmgr import Agent, ModelResponse, TextPart
from runmgr.models.function import FunctionModel

SECONDS = 10
"""How long anything may take that should take no time."""


class Gated:
    """A model whose requests wait until the test opens them; tells what began, in order, and counts what was cancelled."""

    def __init__(self):
        self.open = False
        self.began = 0
        self.prompts = []
        self.cancelled = 0
        self.most = 0
        self.now = 0
        self.began_one = threading.Event()
        self.cancelled_one = threading.Event()
        self.agent = Agent(FunctionModel(self.answer, model_name="gated"))

    async def answer(self, messages, info):
        self.began += 1
        self.prompts.append(messages[-1].parts[-1].content)
        self.now += 1
        self.most = max(self.most, self.now)
        self.began_one.set()
        try:
            while not self.open:
                await trio.sleep(0.002)
        except trio.Cancelled:
            self.cancelled += 1
            self.cancelled_one.set()
            raise
        finally:
            self.now -= 1
        return ModelResponse(parts=[TextPart(messages[-1].parts[-1].content)])


@pytest.fixture
def gated():
    return Gated()


@pytest.fixture
def echo():
    async def answer(messages, info):
        await trio.lowlevel.checkpoint()
        prompt = messages[-1].parts[-1].content
        if prompt.startswith("fail"):
            raise ValueError(prompt)
        return ModelResponse(parts=[TextPart(prompt)])

    return Agent(FunctionModel(answer, model_name="echo"))


@pytest.fixture
def talker():
    """An agent that answers in pieces, without end where it is told so."""
    state = SimpleNamespace(pieces=20, sent=0, cancelled=threading.Event(), pause=0.0)

    async def stream(messages, info):
        try:
            for number in range(state.pieces):
                state.sent = number
                if state.pause:
                    await trio.sleep(state.pause)
                else:
                    await trio.lowlevel.checkpoint()
                yield f"{number} "
        except BaseException:
            state.cancelled.set()
            raise

    state.agent = Agent(FunctionModel(stream_function=stream, model_name="talker"))
    return state
