"""One topic of uWebSockets: what comes on a connection to /feed is published to all others, each message as it is.

The package socketify carries uWebSockets as a library with a C API. Only that is used, with its own loop, so that
Python is entered once a message and once a connection, and not between them.
"""

import json
from typing import Any

from socketify.native import ffi, lib

HANDLER = "void(uws_websocket_t *, void *)"
TOPIC = b"load-0"

loop = lib.socketify_create_loop()
lib.uws_get_loop_with_native(lib.socketify_get_native_loop(loop))
app = lib.uws_create_app(0, ffi.new("struct us_socket_context_options_t *")[0])


@ffi.callback(HANDLER)  # type: ignore[untyped-decorator]  # socketify has no types
def greet(client: Any, _: Any) -> None:
    lib.uws_ws_subscribe(0, client, TOPIC, len(TOPIC))
    lib.uws_ws_send(0, client, b"hello", 5, lib.TEXT)


@ffi.callback("void(uws_websocket_t *, const char *, size_t, uws_opcode_t, void *)")  # type: ignore[untyped-decorator]
def publish(_publisher: Any, message: Any, length: int, opcode: int, _: Any) -> None:
    lib.uws_publish(0, app, TOPIC, len(TOPIC), message, length, opcode, False)


@ffi.callback("void(struct us_listen_socket_t *, uws_app_listen_config_t, void *)")  # type: ignore[untyped-decorator]
def listening(socket: Any, _config: Any, _: Any) -> None:
    port = lib.us_socket_local_port(0, socket)
    print(json.dumps({"port": port, "feed": port}), flush=True)


def behavior(**handlers: Any) -> Any:
    """No keep-alives, as with all peers; back-pressure as much as the checked numbers may need."""
    return ffi.new(
        "uws_socket_behavior_t *",
        {"compression": 0, "maxPayloadLength": 1 << 20, "idleTimeout": 0, "maxBackpressure": 64 << 20, **handlers},
    )[0]


lib.uws_ws(0, app, b"/feed", behavior(message=publish), ffi.NULL)
lib.uws_ws(0, app, b"/", behavior(open=greet), ffi.NULL)
host = ffi.new("char[]", b"127.0.0.1")
config = ffi.new("uws_app_listen_config_t *", {"port": 0, "host": host, "options": 0})
lib.uws_app_listen_with_config(0, app, config[0], listening, ffi.NULL)
lib.socketify_loop_run(loop, lib.SOCKETIFY_RUN_DEFAULT)
