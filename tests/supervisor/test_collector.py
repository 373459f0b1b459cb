"""The garbage collector's thresholds while supervisors are open."""

from __future__ import annotations

import gc

import pytest

from runmgr.supervisor import open_supervisor
from runmgr.supervisor.collector import DEFAULTS, THRESHOLDS


@pytest.fixture(autouse=True)
def thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("defaults", DEFAULTS)
async def test_they_are_raised_while_any_is_open(defaults):
    gc.set_threshold(*defaults)
    async with open_supervisor():
        assert gc.get_threshold() == THRESHOLDS
        async with open_supervisor():
            assert gc.get_threshold() == THRESHOLDS
        assert gc.get_threshold() == THRESHOLDS
    assert gc.get_threshold() == defaults


async def test_what_a_program_has_set_is_left_alone():
    gc.set_threshold(12_345, 6, 7)
    async with open_supervisor():
        assert gc.get_threshold() == (12_345, 6, 7)
    assert gc.get_threshold() == (12_345, 6, 7)


async def test_what_it_sets_meanwhile_stays():
    gc.set_threshold(*DEFAULTS[0])
    async with open_supervisor():
        gc.set_threshold(999, 9, 9)
    assert gc.get_threshold() == (999, 9, 9)


async def test_a_body_that_raises():
    gc.set_threshold(*DEFAULTS[0])
    with pytest.raises(KeyError):
        async with open_supervisor():
            raise KeyError
    assert gc.get_threshold() == DEFAULTS[0]
