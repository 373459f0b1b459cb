"""``runmgr sim``: the simulated model behind an OpenAI-compatible HTTP server, on loopback by default."""

from runmgr.sim.server import SimEntry, SimServer, open_sim_server, serve

__all__ = ("SimEntry", "SimServer", "open_sim_server", "serve")
