"""Deterministic simulation: your agents under the real supervisor, in virtual time, through faults and crashes, by one seed.

from runmgr.testing import simulate

def test_my_agent():
    for seed in range(10):
        simulate(my_agent, prompts, answers=FunctionModel(...), seed=seed)
"""

from .book import Violation
from .faults import Faults
from .life import Crash
from .schedule import deterministic_trio, run_in_virtual_time
from .simulation import INVARIANTS, Report, Simulation, simulate

__all__ = (
    "INVARIANTS",
    "Crash",
    "Faults",
    "Report",
    "Simulation",
    "Violation",
    "deterministic_trio",
    "run_in_virtual_time",
    "simulate",
)
