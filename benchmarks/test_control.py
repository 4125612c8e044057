"""The control is only worth comparing with if it sends everything, also to sockets that are full."""

import socket
import threading
from typing import Any

import pytest

from benchmarks.harness import SERVER_CORE, Program, Tools

CONNECTIONS = 3
FRAME_BYTES = 4_096
MESSAGES = 1_000  # four megabytes for each socket: more than the kernel holds for it


@pytest.mark.parametrize("how", ["send", "sendmsg", "uring"])
def test_slow_readers_get_every_byte_in_order(tools: Tools, how: str) -> None:
    received: list[list[int]] = [[] for _ in range(CONNECTIONS)]
    command = (tools.control, str(CONNECTIONS), str(FRAME_BYTES), "c", how, "16")
    with Program(*command, core=SERVER_CORE) as control:
        port = control.hear()["port"]
        sockets = [slow_socket(port) for _ in range(CONNECTIONS)]
        assert control.hear()["accepted"] == CONNECTIONS
        readers = [
            threading.Thread(target=read, args=(client, numbers))
            for client, numbers in zip(sockets, received, strict=True)
        ]
        for reader in readers:
            reader.start()
        assert control.ask(f"send {MESSAGES}") == {"sent": MESSAGES}
        for reader in readers:
            reader.join()
    assert received == [list(range(MESSAGES))] * CONNECTIONS


def slow_socket(port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect(("127.0.0.1", port))
    return client


def read(client: socket.socket, numbers: list[int]) -> None:
    with client, client.makefile("rb", buffering=2_048) as stream:
        for _ in range(MESSAGES):
            head: Any = stream.read(4)
            assert head == bytes([0x81, 126]) + FRAME_BYTES.to_bytes(2, "big")
            text = stream.read(FRAME_BYTES)
            assert text.endswith(b'x"}]}')
            numbers.append(int(text.split(b'"data":"')[1].split(b" ")[0]))
