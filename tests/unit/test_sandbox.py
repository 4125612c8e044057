"""Provisioned apps: what their owner is told, what opens and closes with them, and how many there may be."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from fanout import sandbox
from fanout.auth.capabilities import allows
from fanout.auth.keys import Key, Keys
from fanout.auth.realms import realm_of
from fanout.config import Config
from fanout.errors import ClientError, ConfigError, ErrorInfo, error
from fanout.namespaces import Namespaces
from fanout.presence.service import Done, Presence
from fanout.sandbox import Sandbox
from fanout.server import Server
from fanout.session.limits import Limits
from fanout.types import PresenceEvent


class FakePresence(Presence):
    """Remembers who entered; refuses on demand."""

    def __init__(self) -> None:
        self.entered: dict[tuple[str, str], list[PresenceEvent]] = {}
        self.over: list[str] = []
        self.refusal: ErrorInfo | None = None

    def write(self, connection_id: str, channel: str, events: Sequence[PresenceEvent], done: Done) -> None:
        self.entered[connection_id, channel] = list(events)
        done(self.refusal or [None] * len(events))

    def ended(self, connection_id: str) -> None:
        self.over.append(connection_id)


def made_sandbox(
    keys: Keys | None = None, namespaces: Namespaces | None = None, presence: Presence | None = None
) -> Sandbox:
    return Sandbox(
        Keys() if keys is None else keys,
        Namespaces() if namespaces is None else namespaces,
        presence or FakePresence(),
        Limits(),
    )


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> int:
    return refused.value.info.code


async def test_an_app_is_told_with_keys_in_the_order_asked_for() -> None:
    keys = Keys()
    app = await made_sandbox(keys).provision(
        {
            "limits": {"presence": {"maxMembers": 250}},
            "keys": [
                {},
                {"capability": '{ "b:*": ["subscribe", "publish"], "a": ["*"] }'},
                {"capability": {"c": ["history"]}},
                {"revocableTokens": True},
            ],
            "namespaces": [{"id": "persisted", "persisted": True}],
        }
    )
    assert app["namespaces"] == [{"id": "persisted", "persisted": True, "pushEnabled": False, "mutableMessages": False}]
    assert app["id"] == app["appId"]
    first, second, third, fourth = app["keys"]
    assert first["keyName"] == f"{app['appId']}.{first['id']}"
    assert first["keyStr"] == f"{first['keyName']}:{first['value']}"
    assert first["keySecret"] == first["value"]
    assert first["capability"] == '{"*":["*"]}'
    assert second["capability"] == '{"a":["*"],"b:*":["publish","subscribe"]}'
    assert third["capability"] == '{"c":["history"]}'
    assert (first["revocableTokens"], fourth["revocableTokens"]) == (False, True)
    for key in app["keys"]:
        identity = keys.authenticate(key["keyStr"])
        assert {name: sorted(may) for name, may in identity.capability.items()} == orjson.loads(key["capability"])
    found = keys.find(fourth["keyName"])
    assert found is not None
    assert found.revocable_tokens


async def test_a_default_key_has_all_ordinary_channels_and_no_metachannel() -> None:
    keys = Keys()
    (key,) = (await made_sandbox(keys).provision({"keys": [{}]}))["keys"]
    capability = keys.authenticate(key["keyStr"]).capability
    assert allows(capability, "a:b", "presence")
    assert not allows(capability, "[meta]log", "subscribe")


async def test_a_deleted_app_opens_nothing_and_others_stay() -> None:
    keys = Keys([Key.parse("app.key:secret")])
    box = made_sandbox(keys)
    gone, stays = [await box.provision({"keys": [{}]}) for _ in range(2)]
    box.remove(gone["id"])
    box.remove(gone["id"])
    assert gone["id"] not in box
    assert stays["id"] in box
    with pytest.raises(ClientError) as refused:
        keys.authenticate(gone["keys"][0]["keyStr"])
    assert code_of(refused) == 40101
    keys.authenticate(stays["keys"][0]["keyStr"])
    keys.authenticate("app.key:secret")


async def test_messages_can_be_changed_in_the_namespaces_that_the_app_says_while_it_lasts() -> None:
    namespaces = Namespaces()
    box = made_sandbox(namespaces=namespaces)
    app = await box.provision({"namespaces": [{"id": "mutable", "mutableMessages": True}, {"id": "plain"}]})
    realm = realm_of(app["id"])
    assert namespaces.mutable(realm + "mutable:a")
    assert not namespaces.mutable(realm + "plain:a")
    assert not namespaces.mutable("mutable:a")
    box.remove(app["id"])
    assert not namespaces.mutable(realm + "mutable:a")


MEMBERS = {
    "channels": [
        {
            "name": "room:1",
            "presence": [
                {"clientId": "bob", "data": "true"},
                {"clientId": "eve", "data": "AQI=", "encoding": "cipher+aes-128-cbc/base64"},
            ],
        }
    ]
}


async def test_members_enter_with_the_app_and_leave_with_it() -> None:
    presence = FakePresence()
    box = made_sandbox(presence=presence)
    app = (await box.provision(MEMBERS))["id"]
    assert presence.entered == {
        (app, realm_of(app) + "room:1"): [
            PresenceEvent("enter", f"{app}:0:0", "bob", "true", size=7),
            PresenceEvent("enter", f"{app}:0:1", "eve", b"\1\2", "cipher+aes-128-cbc", size=7),
        ]
    }
    box.remove(app)
    assert presence.over == [app]


async def test_an_app_whose_members_the_log_refuses_is_not_made() -> None:
    presence, keys = FakePresence(), Keys()
    presence.refusal = error(50003)
    box = made_sandbox(keys, presence=presence)
    with pytest.raises(ClientError) as refused:
        await box.provision({"keys": [{}], **MEMBERS})
    assert code_of(refused) == 50003
    ((app, _),) = presence.entered
    assert app not in box
    assert not keys.has_app(app)


async def test_an_app_may_be_empty() -> None:
    app = await made_sandbox().provision({})
    assert (app["keys"], app["namespaces"]) == ([], [])


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"keys": {}}, 40001),
        ({"keys": [{"capability": 1}]}, 40001),
        ({"keys": [{"capability": "{"}]}, 40001),
        ({"keys": [{"capability": '{"a":["fly"]}'}]}, 40001),
        ({"keys": [{"capability": {}}]}, 40001),
        ({"keys": [{"revocableTokens": "yes"}]}, 40001),
        ({"namespaces": ["persisted"]}, 40001),
        ({"namespaces": [{}]}, 40001),
        ({"channels": [{"name": "a", "presence": [{"clientId": 1}]}]}, 40001),
        ({"channels": [{"name": "a", "presence": [{"clientId": "*"}]}]}, 40012),
        ({"channels": [{"name": "a", "presence": [{"clientId": "x", "data": "?", "encoding": "base64"}]}]}, 40013),
        ({"channels": [{"name": ":a", "presence": [{"clientId": "x"}]}]}, 40010),
        ({"channels": [{"name": "a", "presence": [{"clientId": "x"}] * (sandbox.MEMBERS_MAX + 1)}]}, 40003),
        ({"keys": [{}] * (sandbox.KEYS_MAX + 1)}, 40003),
        ({"namespaces": [{"id": "a"}] * (sandbox.NAMESPACES_MAX + 1)}, 40003),
    ],
)
async def test_what_cannot_be_made_leaves_nothing_behind(wanted: dict[str, Any], code: int) -> None:
    keys = Keys()
    with pytest.raises(ClientError) as refused:
        await made_sandbox(keys).provision(wanted)
    assert code_of(refused) == code


async def test_there_is_a_limit_to_apps_and_deleting_one_makes_room() -> None:
    box = made_sandbox()
    apps = [(await box.provision({}))["id"] for _ in range(sandbox.APPS_MAX)]
    assert len(set(apps)) == sandbox.APPS_MAX
    with pytest.raises(ClientError) as refused:
        await box.provision({})
    assert code_of(refused) == 42910
    box.remove(apps[7])
    await box.provision({})


def test_a_program_with_a_rule_of_its_own_has_no_sandbox() -> None:
    with pytest.raises(ConfigError, match="sandbox is given, and so is authorize"):
        Server(Config(sandbox=True), authorize=lambda credential, client_id: None)
