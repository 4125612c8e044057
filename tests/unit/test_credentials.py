"""What a node makes up for itself: once, for its owner's eyes, whoever is first."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fanout.auth.credentials import Presented
from fanout.auth.keys import Key
from fanout.config import Config
from fanout.credentials import grant_access, load_or_create
from fanout.errors import ClientError, ConfigError
from fanout.types import Identity


def test_are_made_once_and_kept(tmp_path: Path) -> None:
    made = load_or_create(tmp_path / "deep" / "data")
    assert Key.parse(made.key).capability
    assert len(made.secret) == 64
    assert load_or_create(tmp_path / "deep" / "data") == made


def test_are_different_in_each_directory(tmp_path: Path) -> None:
    one, two = load_or_create(tmp_path / "one"), load_or_create(tmp_path / "two")
    assert one.key != two.key
    assert one.secret != two.secret


def test_are_for_the_owner_alone(tmp_path: Path) -> None:
    load_or_create(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data" / "credentials.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "data") == ["credentials.json"]


def test_are_the_first_ones_for_all_who_come_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(load_or_create, [tmp_path] * 64))) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1, "secret": "x"}', '{"key": "x"}', "\xff"])
def test_that_are_damaged_are_refused_with_the_file_to_delete(tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"credentials.json' is damaged; delete it"):
        load_or_create(tmp_path)


def test_in_a_place_that_cannot_be_written_are_refused_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"^data: '.*/file/data' cannot be used \(Not a directory\); give a directory"
    ):
        load_or_create(tmp_path / "file" / "data")


def test_of_a_node_without_keys_are_the_made_ones(tmp_path: Path) -> None:
    made = load_or_create(tmp_path)
    access = grant_access(Config(data=tmp_path), None)
    assert (access.key, access.secret, access.made) == (made.key, made.secret.encode(), True)
    assert access.keys.authenticate(made.key).client_id == "*"


def test_of_a_node_with_keys_are_those_alone(tmp_path: Path) -> None:
    access = grant_access(Config(data=tmp_path, key=('a.b:s={"x":["subscribe"]}', "a.c:t")), None)
    assert (access.key, access.made) == ("a.b:s", False)
    assert access.keys.authenticate("a.b:s").capability == {"x": frozenset({"subscribe"})}
    with pytest.raises(ClientError):
        access.keys.authenticate(load_or_create(tmp_path).key)


def test_that_are_all_configured_touch_no_directory(tmp_path: Path) -> None:
    access = grant_access(Config(data=tmp_path / "data", key=("a.b:s",), secret="a secret of the nodes"), None)
    assert access.secret == b"a secret of the nodes"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("answer", [True, "me", {"client_id": "me"}, Identity])
def test_rule_that_answers_no_identity_turns_away_and_says_so_once(
    tmp_path: Path, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rule = grant_access(Config(data=tmp_path), lambda credential, client_id: answer).authenticator
    for _ in range(2):
        with pytest.raises(ClientError) as refused:
            rule.identify(Presented("a.b:c", is_token=False, client_id=None), 0)
        assert refused.value.info.code == 50000
    assert caplog.text.count("authorize failed") == 1
    assert f"TypeError: authorize returns an Identity or None, not {type(answer).__name__}" in caplog.text
