"""The page's client, run by Node.js without a server."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fanout

pytestmark = pytest.mark.node

CLIENT = Path(fanout.__file__).parent / "console" / "client.js"


def run(folder: Path, script: str) -> Any:
    """What the script passes to `answer`; the client's names are imported."""
    shutil.copy(CLIENT, folder / "client.mjs")
    main = folder / "main.mjs"
    main.write_text(
        'import { Client, dateOf, readable } from "./client.mjs";\n'
        "const answer = (value) => { console.log(JSON.stringify(value)); process.exit(0); };\n" + script
    )
    done = subprocess.run(["node", main], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({}, ""),
        ({"data": "text"}, "text"),
        ({"data": "[1]", "encoding": "json"}, "[\n  1\n]"),
        ({"data": "[1", "encoding": "json"}, "[1"),
        ({"data": "AP8=", "encoding": "base64"}, "2 bytes of binary data"),
        ({"data": "!!!", "encoding": "base64"}, "(cannot be shown)"),
        ({"data": "x", "encoding": "cipher"}, "data encoded as cipher"),
    ],
)
def test_any_data_is_shown_as_text(tmp_path: Path, message: dict[str, Any], text: str) -> None:
    assert run(tmp_path, f"answer(readable({json.dumps(message)}));") == text


@pytest.mark.parametrize("timestamp", [8_640_000_000_000_001, 2**63 - 1, -(2**63), "yesterday", None])
def test_a_timestamp_that_is_no_date_is_none(tmp_path: Path, timestamp: Any) -> None:
    assert run(tmp_path, f"answer(dateOf({{ timestamp: {json.dumps(timestamp)} }}));") is None


def test_a_timestamp_is_a_date(tmp_path: Path) -> None:
    assert run(tmp_path, "answer(dateOf({ timestamp: 1000 }));") == "1970-01-01T00:00:01.000Z"


def test_a_message_that_its_handler_fails_on_does_not_cost_the_others(tmp_path: Path) -> None:
    script = """
        let socket;
        globalThis.WebSocket = class { constructor() { socket = this; } send() {} close() {} };
        console.error = () => {};
        const taken = [];
        const client = new Client({ url: "ws://nowhere/", key: async () => "key" });
        client.subscribe("c", { message({ data }) { if (data === "bad") throw new Error("bad"); taken.push(data); } });
        client.connect();
        setTimeout(() => {
          const messages = [{ data: "a" }, { data: "bad" }, { data: "b" }];
          socket.onmessage({ data: JSON.stringify({ action: 15, channel: "c", id: "x", messages }) });
          answer(taken);
        });
    """
    assert run(tmp_path, script) == ["a", "b"]
