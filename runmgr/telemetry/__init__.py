"""What supervisors do, as OpenTelemetry metrics. The spans of runs come from the agents: see `InstrumentationSettings`."""

from .metrics import Metrics

__all__ = ("Metrics",)
