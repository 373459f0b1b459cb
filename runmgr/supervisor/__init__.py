"""Many runs under one supervisor: admitted, accounted, steered and ended."""

from runmgr.records.outcomes import RunError, RunOutcome, RunState

from .handle import RunHandle
from .mapping import Outcomes
from .spec import RunSpec
from .supervisor import Supervisor, open_supervisor

__all__ = (
    "Outcomes",
    "RunError",
    "RunHandle",
    "RunOutcome",
    "RunSpec",
    "RunState",
    "Supervisor",
    "open_supervisor",
)
