"""``runmgr sim``: the simulated model behind an OpenAI-compatible HTTP server, on loopback by default."""

from runmgr.sim.server import SimServer, open_sim_server, serve

__all__ = ("SimServer", "open_sim_server", "serve")
