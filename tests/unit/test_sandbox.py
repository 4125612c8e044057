"""Provisioned apps: what their owner is told, what opens and closes with them, and how many there may be."""

from typing import Any

import orjson
import pytest

from fanout import sandbox
from fanout.auth.capabilities import allows
from fanout.auth.keys import Key, Keys
from fanout.auth.realms import realm_of
from fanout.config import Config
from fanout.errors import ClientError, ConfigError
from fanout.namespaces import Namespaces
from fanout.sandbox import Sandbox
from fanout.server import Server


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> int:
    return refused.value.info.code


def test_an_app_is_told_with_keys_in_the_order_asked_for() -> None:
    keys = Keys()
    app = Sandbox(keys, Namespaces()).provision(
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


def test_a_default_key_has_all_ordinary_channels_and_no_metachannel() -> None:
    keys = Keys()
    (key,) = Sandbox(keys, Namespaces()).provision({"keys": [{}]})["keys"]
    capability = keys.authenticate(key["keyStr"]).capability
    assert allows(capability, "a:b", "presence")
    assert not allows(capability, "[meta]log", "subscribe")


def test_a_deleted_app_opens_nothing_and_others_stay() -> None:
    keys = Keys([Key.parse("app.key:secret")])
    box = Sandbox(keys, Namespaces())
    gone, stays = box.provision({"keys": [{}]}), box.provision({"keys": [{}]})
    box.remove(gone["id"])
    box.remove(gone["id"])
    assert gone["id"] not in box
    assert stays["id"] in box
    with pytest.raises(ClientError) as refused:
        keys.authenticate(gone["keys"][0]["keyStr"])
    assert code_of(refused) == 40101
    keys.authenticate(stays["keys"][0]["keyStr"])
    keys.authenticate("app.key:secret")


def test_messages_can_be_changed_in_the_namespaces_that_the_app_says_while_it_lasts() -> None:
    namespaces = Namespaces()
    box = Sandbox(Keys(), namespaces)
    app = box.provision({"namespaces": [{"id": "mutable", "mutableMessages": True}, {"id": "plain"}]})["id"]
    realm = realm_of(app)
    assert namespaces.mutable(realm + "mutable:a")
    assert not namespaces.mutable(realm + "plain:a")
    assert not namespaces.mutable("mutable:a")
    box.remove(app)
    assert not namespaces.mutable(realm + "mutable:a")


def test_an_app_may_be_empty() -> None:
    app = Sandbox(Keys(), Namespaces()).provision({})
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
        ({"keys": [{}] * (sandbox.KEYS_MAX + 1)}, 40003),
        ({"namespaces": [{"id": "a"}] * (sandbox.NAMESPACES_MAX + 1)}, 40003),
    ],
)
def test_what_cannot_be_made_leaves_nothing_behind(wanted: dict[str, Any], code: int) -> None:
    keys = Keys()
    with pytest.raises(ClientError) as refused:
        Sandbox(keys, Namespaces()).provision(wanted)
    assert code_of(refused) == code


def test_there_is_a_limit_to_apps_and_deleting_one_makes_room() -> None:
    box = Sandbox(Keys(), Namespaces())
    apps = [box.provision({})["id"] for _ in range(sandbox.APPS_MAX)]
    assert len(set(apps)) == sandbox.APPS_MAX
    with pytest.raises(ClientError) as refused:
        box.provision({})
    assert code_of(refused) == 42910
    box.remove(apps[7])
    box.provision({})


def test_a_program_with_a_rule_of_its_own_has_no_sandbox() -> None:
    with pytest.raises(ConfigError, match="sandbox is given, and so is authorize"):
        Server(Config(sandbox=True), authorize=lambda credential, client_id: None)
