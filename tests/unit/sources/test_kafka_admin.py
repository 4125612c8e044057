"""What a node says of a Kafka that does not speak to it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fanout.sources import kafka_admin
from fanout.sources.kafka import KafkaSource
from tests.support.sources import RecordingSink, eventually

ALERT = bytes([0x15, 3, 3, 0, 2, 2, 0x50])  # fatal, internal error (RFC 8446, section 6): what a JVM's TLS answers


@contextmanager
def closing_port() -> Iterator[str]:
    """A port that answers whatever comes with an alert, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                with accepted:
                    if accepted.recv(1 << 10):
                        accepted.sendall(ALERT)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_who_speaks_plainly_to_a_port_of_tls_is_told_what_may_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_admin, "REQUEST_S", 1.0)
    with closing_port() as address:
        source = KafkaSource({"bootstrap.servers": address})
        await source.start(RecordingSink(), ["t"], 1000)
        await eventually(lambda: "want TLS and not security.protocol=plaintext" in source.health().reason)
        assert not source.health().ok
        await source.stop()
