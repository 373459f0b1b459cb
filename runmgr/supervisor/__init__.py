"""Many runs under one supervisor: admitted, accounted, steered and ended."""

from runmgr.records.outcomes import RunError, RunOutcome, RunState

from .handle import RunHandle
from .mapping import Outcomes
from .opening import open_supervisor
from .spec import RunSpec
from .supervisor import Supervisor

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
