"""What the agent's tests share: models that say what they are told."""

import pytest

from runmgr.messages import ModelResponse, TextPart, ToolCallPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage


def _says(*responses):
    left = iter(responses)

    def model(messages, info):
        said = next(left)
        if callable(said):
            said = said(messages, info)
        if isinstance(said, ModelResponse):
            return said
        if isinstance(said, str):
            said = [TextPart(said)]
        return ModelResponse(list(said), usage=RequestUsage(input_tokens=10, output_tokens=1))

    return FunctionModel(model)


@pytest.fixture
def says():
    """A model that gives these responses in turn: texts, lists of parts, or functions of messages and info."""
    return _says


@pytest.fixture
def call():
    """A tool call: name, arguments, id."""
    return lambda name, args=None, call_id="c1": ToolCallPart(name, {} if args is None else args, call_id)
