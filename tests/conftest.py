"""What every test shares."""

import contextlib
import logging
import signal

# Pydantic AI leaves failed tasks behind; asyncio logs them, with tracebacks, whenever they are collected. On CPython 3.11 that
# breaks an `ast.parse` of pytest's that is under way (python/cpython#106905).
logging.getLogger("asyncio").disabled = True

# An example that takes long says that the machine is busy, no more. With CI in the environment Hypothesis takes it so by itself.
with contextlib.suppress(ImportError):  # the environments of tests/ray and tests/examples are without it
    import hypothesis

    hypothesis.settings.register_profile(
        "unhurried",
        hypothesis.settings.default,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("unhurried")

# A shell's script ignores Ctrl-C in what it starts with `&`, and so would the processes whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
