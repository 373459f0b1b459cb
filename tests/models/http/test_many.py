"""Two thousand requests at once."""

import subprocess
import sys

import pytest
import trio

from runmgr.models.http import PoolClient

# In a process of its own: its half of the connections must not count against the limit of open files, nor its CPU.
SERVER = """
import asyncio, resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
ANSWER = b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}"

class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        asyncio.get_running_loop().call_later(0.2, self.transport.write, ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

COUNT = 2_000


@pytest.fixture
def room():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < COUNT + 500:
        pytest.skip(f"the system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, COUNT + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_two_thousand_at_once(room):
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        client = PoolClient(f"http://127.0.0.1:{port}", max_connections=COUNT)
        answers = 0

        async def ask():
            nonlocal answers
            for _ in range(2):
                assert (await client.post("/x", b"{}")).body == b"{}"
                answers += 1

        most = 0
        async with trio.open_nursery() as nursery:
            for _ in range(COUNT):
                nursery.start_soon(ask)
            while answers < COUNT:
                most = max(most, client.pool().statistics()["in_use"])
                await trio.sleep(0.01)
        assert answers == 2 * COUNT
        assert most == COUNT
        assert client.pool().statistics() == {"in_use": 0, "idle": COUNT, "waiting": 0, "limit": COUNT}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
