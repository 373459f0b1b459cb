"""Load benchmarks: of models behind an OpenAI-compatible server, and of whole agents."""

from runmgr.load.config import LoadConfig
from runmgr.load.run import LoadResult, run_load

__all__ = ("LoadConfig", "LoadResult", "run_load")
