from typing import Any

import pytest

from runmgr.tools import RunContext
from runmgr.usage import RunUsage


@pytest.fixture
def make_context():
    def make(**kwargs: Any) -> RunContext[Any]:
        kwargs = {"deps": None, "model": None, "usage": RunUsage(), "run_step": 1} | kwargs
        return RunContext(**kwargs)

    return make
