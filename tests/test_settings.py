"""Model settings: the keys, and merging without touching either side."""

import inspect
from typing import get_type_hints

import pydantic
import pydantic_ai.settings as theirs
import pytest

from runmgr.settings import ModelSettings, merge_model_settings


def test_keys_are_theirs():
    assert ModelSettings.__annotations__.keys() == theirs.ModelSettings.__annotations__.keys()
    assert ModelSettings.__required_keys__ == frozenset()
    assert inspect.signature(merge_model_settings).parameters.keys() == {"base", "overrides"}


@pytest.mark.parametrize("base", [None, {}, {"temperature": 0.5, "max_tokens": 1}])
@pytest.mark.parametrize("overrides", [None, {}, {"temperature": 0.1, "seed": 3}])
def test_merging(base, overrides):
    before = (dict(base or {}), dict(overrides or {}))
    merged = merge_model_settings(base, overrides)
    assert (merged or {}) == {**(base or {}), **(overrides or {})}
    assert (merged or {}) == (theirs.merge_model_settings(base, overrides) or {})
    assert (dict(base or {}), dict(overrides or {})) == before


def test_in_pydantic_models():
    adapter = pydantic.TypeAdapter(ModelSettings)
    assert adapter.validate_python({"max_tokens": "3", "timeout": 2.5}) == {"max_tokens": 3, "timeout": 2.5}
    assert get_type_hints(ModelSettings)["stop_sequences"] == list[str]
