"""Decoding as rules ask for it, and nothing of it where they do not."""

import subprocess
import sys
from typing import cast

import pytest

from fanout.config import RegistryAddress
from fanout.decoding import configured_schemas, decoded_source
from fanout.decoding.sink import Formats
from fanout.decoding.source import DecodedSource
from fanout.errors import ConfigError
from fanout.routing import Routing, guarded
from fanout.rules.route import Rule
from fanout.sources.base import Source
from fanout.types import Record
from tests.support.sources import NeverReadBack

REGISTRY = RegistryAddress("http://127.0.0.1:1", {})


def source_of(*rules: Rule) -> Source:
    return decoded_source(cast("Source", NeverReadBack()), Routing(rules, "p", registry=REGISTRY))[0]


def test_without_such_a_rule_the_source_stays_what_it_is() -> None:
    log = cast("Source", NeverReadBack())
    assert decoded_source(log, Routing((Rule("t", "c", value="json"),), "p", registry=REGISTRY))[0] is log
    assert configured_schemas(Routing((), "p")) is None


def test_each_topic_is_decoded_as_its_first_rule_says() -> None:
    rules = Rule("t", "c", key="text", value="avro"), Rule("t*", "c", key="protobuf"), Rule("plain", "c", value="json")
    source = source_of(*rules)
    assert isinstance(source, DecodedSource)
    formats = [source._formats_of(topic) for topic in ("t", "t2", "plain", "other")]
    assert formats == [Formats(None, "avro"), Formats("protobuf", None), None, None]


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fanout.decoding.decoders", None)
    with pytest.raises(ConfigError, match=r"pip install 'fanout-engine\[schemas\]'"):
        source_of(Rule("t", "c", value="avro"))


def test_nothing_of_the_packages_is_loaded_before_a_rule_needs_it() -> None:
    code = "import sys, fanout.node; sys.exit('fastavro' in sys.modules or 'google.protobuf' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_programs_own_rule_is_not_shown_what_could_not_be_decoded() -> None:
    shown: list[Record] = []
    route = guarded(lambda record: shown.append(record) or "c")  # type: ignore[func-returns-value]
    good = Record("t", 0, 0, 0, 1, None, b"{}", None)
    assert route(good) == ("c",)
    assert route(good._replace(headers=[("fanout.undecodable", b"why")])) == ("",)
    assert shown == [good]
