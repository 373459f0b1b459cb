"""Many runs under one supervisor: admitted, accounted, steered and ended."""

from runmgr.records.outcomes import RunError, RunOutcome, RunState

from .breaker import BreakerPolicy
from .channels import RunChannel
from .commands import Answer
from .functions import FunctionAgent
from .handle import RunHandle
from .mapping import Outcomes
from .opening import open_supervisor
from .spec import RunSpec
from .supervisor import Supervisor, current_supervisor

__all__ = (
    "Answer",
    "BreakerPolicy",
    "FunctionAgent",
    "Outcomes",
    "RunChannel",
    "RunError",
    "RunHandle",
    "RunOutcome",
    "RunSpec",
    "RunState",
    "Supervisor",
    "current_supervisor",
    "open_supervisor",
)
