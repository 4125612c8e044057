"""A node in the foreground: it says where it is, and runs until a signal.

The first SIGINT or SIGTERM drains: clients are sent away over the drain window. A second one ends the process at once;
nothing that was acknowledged is lost by that. Where the node speaks TLS, SIGHUP has it read its certificate again.
"""

import asyncio
import gc
import logging
import os
import signal
import sys

from fanout.config import Config
from fanout.errors import ConfigError
from fanout.server import Server

__all__ = ["banner", "run", "tune_interpreter"]

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
COLLECTED_AFTER = (20_000, 10, 100)
SWITCH_S = 0.0005


async def run(config: Config) -> int:
    """Serves until a signal; the exit status. Raises what `Server` raises when it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _on_signal, stop, number)
    async with Server(config) as server:
        sys.stdout.write(banner(server))
        sys.stdout.flush()
        tune_interpreter()
        if config.tls_cert is not None:
            loop.add_signal_handler(signal.SIGHUP, _on_hangup, server)
        await stop.wait()
        await server.drain()
    return 0


def tune_interpreter() -> None:
    """Makes Python's collector of cycles look at what is new, and seldom; and threads take turns more often.

    For a process that is a node and no more. Nothing that lasts as long as a connection or the node is part of a cycle
    that must be found: such things go when nobody holds them any more. With Python's defaults a storm of connects
    spends a tenth of its time on them, and a full collection holds the loop for 25 ms instead of 5.

    Whoever waits for the interpreter's lock asks for it after the switch interval. By default, 5 ms, the loop waits for
    the thread that reads Kafka until its batch ends: 8 ms late at p99 while a log is read at full speed, where 0.5 ms
    make it 5; reading is no slower for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
    sys.setswitchinterval(SWITCH_S)


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        os._exit(128 + number)
    stop.set()


def _on_hangup(server: Server) -> None:
    try:
        server.reload_certificate()
    except ConfigError as problem:
        log.error("the certificate stays what it was: %s", problem)
    else:
        log.info("the certificate was read again")


def banner(server: Server) -> str:
    """What a newcomer needs next: where the page is, the key, a line to publish and one to look."""
    config, key = server.config, server.key
    log = f"Kafka at {config.kafka}" if config.kafka else f"the embedded log in {config.data}"
    lines = [f"fanout is listening on {server.url}, reading {log}.", ""]
    if server.mqtt_port is not None:
        lines[1:1] = [f"MQTT is spoken on port {server.mqtt_port}."]
    if key is None:
        return "\n".join([*lines, "Clients are let in by the program's own rule.", ""])
    messages = f"{server.url}/channels/chat:lobby/messages"
    return "\n".join(
        [
            *lines,
            f"  page     {server.url}/#key={key}",
            f"  key      {key}",
            f"  publish  curl -u '{key}' {messages} -H 'Content-Type: application/json' -d '{{\"data\":\"hello\"}}'",
            f"  watch    open the page; or look back: curl -u '{key}' {messages}",
            "",
            "Any Ably SDK connects with this key and this host and port. Ctrl-C stops.",
            "",
        ]
    )
