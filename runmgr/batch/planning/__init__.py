"""What a batch will take, before it is paid for: a pilot, and the rest in virtual time."""

from runmgr.batch.planning.forecast import Estimate, Forecast, forecast
from runmgr.batch.planning.pilot import Figures, RequestSample, Samples, run_pilot, samples_of

__all__ = (
    "Estimate",
    "Figures",
    "Forecast",
    "RequestSample",
    "Samples",
    "forecast",
    "run_pilot",
    "samples_of",
)
