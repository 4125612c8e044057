"""Realms: provisioned apps stand apart, others do not."""

from fanout.auth.capabilities import allows
from fanout.auth.realms import SEPARATOR, bare, new_app_id, realm_of


def test_only_provisioned_apps_have_a_realm() -> None:
    one, other = new_app_id(), new_app_id()
    assert realm_of(f"{one}.key") == realm_of(f"{one}.another")
    assert realm_of(f"{one}.key") != realm_of(f"{other}.key")
    assert realm_of("app.key") == ""
    assert realm_of("") == ""


def test_the_name_within_a_realm_is_what_clients_know() -> None:
    realm = realm_of(f"{new_app_id()}.key")
    assert realm.endswith(SEPARATOR)
    assert bare(realm + "a:b") == "a:b"
    assert bare("a:b") == "a:b"


def test_a_capability_knows_nothing_of_realms() -> None:
    realm = realm_of(f"{new_app_id()}.key")
    assert allows({"a:*": frozenset(["publish"])}, realm + "a:b", "publish")
    assert not allows({"a": frozenset(["publish"])}, realm + "b", "publish")
