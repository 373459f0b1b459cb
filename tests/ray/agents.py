"""Agents that workers import."""

import os

import trio
from pydantic import BaseModel

from runmgr import Agent
from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage


class Shout(BaseModel):
    text: str
    process: int


def _said(messages):
    return messages[-1].parts[-1].content


async def answer(messages, info):
    text = _said(messages)
    await trio.sleep(0.05 if not text.startswith("slow") else 3600)
    if text.startswith("bad"):
        raise ValueError(f"no answer to {text}")
    usage = RequestUsage(input_tokens=3, output_tokens=2)
    if info.output_tools:
        args = {"text": text.upper(), "process": os.getpid()}
        return ModelResponse([ToolCallPart(info.output_tools[0].name, args)], usage=usage)
    return ModelResponse([TextPart(text.upper())], usage=usage)


shouter = Agent(FunctionModel(answer, model_name="loud"), name="shouter")
typed = Agent(FunctionModel(answer, model_name="loud"), output_type=Shout, name="typed")
