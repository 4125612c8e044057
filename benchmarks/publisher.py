"""Feeds other servers than ours: the same numbered messages, said as each takes them.

    python -m benchmarks.publisher line|nats|websocket PORT PAYLOAD

Obeys `send COUNT` on standard input: so many messages in one write, which is the best that can happen to a server that
joins what it finds. Answers `{"sent":N}`; ends when standard input does. The n-th message is `~n SENT_US xxx`, PAYLOAD
bytes long.

- `line`: a line of TCP for each message, which our own small servers around a library take.
- `nats`: PUB of the NATS client protocol, to the subject `load-0`.
- `websocket`: a text message for each, on a connection to `/feed`.
"""

import json
import socket
import sys
import time
from collections.abc import Callable

CONNECT_S = 10


def line(payload: bytes) -> bytes:
    return payload + b"\n"


def nats(payload: bytes) -> bytes:
    return b"PUB load-0 %d\r\n%s\r\n" % (len(payload), payload)


def websocket(payload: bytes) -> bytes:
    """RFC 6455 §5.2, masked with zeros."""
    length = len(payload)
    head = bytes([0x80 | length]) if length < 126 else bytes([0xFE]) + length.to_bytes(2, "big")
    return b"\x81" + head + bytes(4) + payload


FORMATS: dict[str, tuple[bytes, bytes, Callable[[bytes], bytes]]] = {
    # what opens the conversation, what ends the answer to it, a message
    "line": (b"", b"", line),
    "nats": (b'CONNECT {"verbose":false}\r\nPING\r\n', b"PONG\r\n", nats),
    "websocket": (
        b"GET /feed HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bm90aGluZyB0byBoaWRlIQ==\r\n\r\n",
        b"\r\n\r\n",
        websocket,
    ),
}


def main(name: str, port: int, size: int) -> None:
    greeting, welcome, encode = FORMATS[name]
    with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_S) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.sendall(greeting)
        answer = b""
        while not answer.endswith(welcome):
            answer += server.recv(4096) or sys.exit(f"{name}: the server has hung up: {answer!r}")
        server.settimeout(None)
        sent = 0
        for command in sys.stdin:
            word, count = command.split()
            assert word == "send"
            numbers = range(sent, sent + int(count))
            server.sendall(b"".join(encode(message(number, size)) for number in numbers))
            sent = numbers.stop
            print(json.dumps({"sent": sent}), flush=True)


def message(number: int, size: int) -> bytes:
    return (b"~%d %d " % (number, time.monotonic_ns() // 1000)).ljust(size, b"x")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
