"""Which channels a namespace covers."""

import pytest

from fanout.config import Config
from fanout.errors import ConfigError
from fanout.namespaces import Namespaces


@pytest.mark.parametrize("channel", ["chat", "chat:1", "chat:rooms:2"])
def test_a_namespace_covers_its_own_name_and_all_below(channel: str) -> None:
    assert Namespaces(["chat"]).mutable(channel)


@pytest.mark.parametrize("channel", ["chats", "chats:1", "other:chat", "Chat"])
def test_and_nothing_else(channel: str) -> None:
    assert not Namespaces(["chat"]).mutable(channel)


def test_more_can_be_added_while_the_node_runs() -> None:
    namespaces = Namespaces()
    assert not namespaces.mutable("chat:1")
    namespaces.add_mutable("chat")
    assert namespaces.mutable("chat:1")


@pytest.mark.parametrize("namespace", ["", "chat:", "a:b", "[meta]log", "two\nlines"])
def test_what_is_no_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigError, match=r"^mutable: "):
        Config(mutable=(namespace,))
