"""``runmgr sim``: the simulated model behind an OpenAI-compatible HTTP server, on loopback by default."""

from runmgr.sim.options import SimEntry, SimOptions
from runmgr.sim.queueing import QueueConfig
from runmgr.sim.server import SimServer, open_sim_server, serve

__all__ = ("QueueConfig", "SimEntry", "SimOptions", "SimServer", "open_sim_server", "serve")
