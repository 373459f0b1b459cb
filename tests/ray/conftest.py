"""Ray for these tests: started once, in a network namespace that has only loopback. ``make test-ray`` makes that."""

import os
import socket

import pytest

ALONE = {name for _, name in socket.if_nameindex()} == {"lo"}


def pytest_collection_modifyitems(items):
    if not ALONE:
        reason = (
            "Ray binds the machine's outside address: these run in a network namespace with only loopback, "
            "which `make test-ray` makes where it may (unshare --net)"
        )
        for item in items:
            if "tests/ray/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def ray():
    """Ray on this machine, for all tests of the session."""
    import ray as module

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    module.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        _node_ip_address="127.0.0.1",
    )
    yield module
    module.shutdown()
