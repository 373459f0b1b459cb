"""What every test shares."""

import logging

# Pydantic AI leaves failed tasks behind; asyncio logs them, with tracebacks, whenever they are collected. On CPython 3.11 that
# breaks an `ast.parse` of pytest's that is under way (python/cpython#106905).
logging.getLogger("asyncio").disabled = True
