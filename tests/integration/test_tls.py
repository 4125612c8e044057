"""Published SDKs over TLS, with a certificate of an authority of the tests' own: promised all that they are without."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.agents import AgentHost
from tests.support.certificates import make_certificates
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.sdk_promises import SdkPromises


@pytest.mark.node
@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestNodeSdk(SdkPromises):
    kind = "node"
    over_tls = True

    async def test_history_is_read_over_tls_too(self, node: NodeProcess, host: AgentHost, wire: str, room: str) -> None:
        client = await host.connect(node.url, KEY, wire)
        await client.publish(room, *map(str, range(3)))
        assert await client.history(room, limit=2) == [["2", "1"], ["0"]]


@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestPythonSdk(SdkPromises):
    kind = "python"
    over_tls = True

    async def test_a_key_is_enough_for_rest(self, node: NodeProcess, host: AgentHost, wire: str, room: str) -> None:
        client = await (await host.connect(node.url, KEY, wire)).attach(room)
        texts = await host.ask("rest", host="localhost", port=node.port, key=KEY, channel=room, data=["a", "b"])
        assert texts == ["b", "a"]
        await client.await_count(room, 2)


async def logged(log: Path, text: str) -> None:
    """Waits until the server has logged it."""
    async with asyncio.timeout(20):
        while text not in log.read_text():  # noqa: ASYNC110, ASYNC240  another process writes it
            await asyncio.sleep(0.02)


async def test_a_certificate_is_read_again_on_a_signal(tmp_path: Path) -> None:
    certificates, log = make_certificates(tmp_path), tmp_path / "server.log"
    async with node_process(tmp_path, certificates=certificates) as node:
        renewed = make_certificates(tmp_path)  # the same files
        node.send_signal(signal.SIGHUP)
        await logged(log, "the certificate was read again")
        async with httpx.AsyncClient(verify=renewed.client()) as client:
            assert (await client.get(f"{node.url}/ready")).status_code == 200
        certificates.key.write_text("no key")
        node.send_signal(signal.SIGHUP)
        await logged(log, "the certificate stays what it was: tls-cert: ")
        async with httpx.AsyncClient(verify=renewed.client()) as client:
            assert (await client.get(f"{node.url}/ready")).status_code == 200
