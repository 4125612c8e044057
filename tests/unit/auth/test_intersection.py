"""What two capabilities both allow: exactly the operations on the channels that both allow."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.auth.capabilities import OPERATIONS, allows, canonical, parse_capability
from fanout.auth.intersection import PAIRS_MAX, STARRED_MAX, intersect

SEGMENTS = st.sampled_from(["a", "b", "*", "a*", ""])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map(":".join)
RESOURCES = st.one_of(NAMES.filter(bool), st.just("[*]*"), NAMES.map("[meta]{}".format), st.just("[queue]*"))
RIGHTS = st.one_of(
    st.just(frozenset("*")), st.frozensets(st.sampled_from(["publish", "subscribe", "history"]), min_size=1)
)
CAPABILITIES = st.dictionaries(RESOURCES, RIGHTS, min_size=1, max_size=4)
CHANNELS = st.one_of(NAMES, NAMES.map("[meta]{}".format), NAMES.map("[queue]{}".format))


def both(key: str, request: str) -> str:
    return canonical(intersect(parse_capability(key), parse_capability(request)))


@settings(max_examples=2_000, deadline=None)
@given(CAPABILITIES, CAPABILITIES, CHANNELS, st.sampled_from(["publish", "subscribe", "presence"]))
def test_allows_what_both_allow_and_nothing_else(
    one: dict[str, frozenset[str]], other: dict[str, frozenset[str]], channel: str, operation: str
) -> None:
    result = intersect(one, other)
    allowed = allows(one, channel, operation) and allows(other, channel, operation)
    assert allows(result, channel, operation) == allowed
    assert allows(intersect(other, one), channel, operation) == allowed
    if result:  # and is a capability that could be asked for
        assert parse_capability(canonical(result)) == result


@pytest.mark.parametrize(
    ("key", "request_", "result"),
    [
        ('{"*":["*"]}', '{"news":["subscribe","publish"]}', '{"news":["publish","subscribe"]}'),
        ('{"[*]*":["*"]}', '{"*":["*"]}', '{"*":["*"]}'),
        ('{"*":["subscribe"]}', '{"can:*":["subscribe"]}', '{"can:*":["subscribe"]}'),
        ('{"can:*":["publish"]}', '{"can:check":["publish"]}', '{"can:check":["publish"]}'),
        ('{"c":["publish","subscribe"]}', '{"c":["*"]}', '{"c":["publish","subscribe"]}'),
        ('{"c":["publish","subscribe"]}', '{"c":["presence","subscribe"],"x":["subscribe"]}', '{"c":["subscribe"]}'),
        ('{"a:*":["publish"],"a:b":["presence"]}', '{"a:b":["*"]}', '{"a:b":["presence","publish"]}'),
        ('{"a:b":["publish"]}', '{"*":["*"]}', '{"a:b":["publish"]}'),
        ('{"a:*:c":["publish"]}', '{"*:b:c":["publish"]}', '{"a:b:c":["publish"]}'),
        ('{"a:*":["publish"]}', '{"*:b:*":["publish"]}', '{"a:b:*":["publish"]}'),
        ('{"a":["publish"]}', '{"a":["subscribe"]}', "{}"),
        ('{"a:*":["publish"]}', '{"a":["publish"]}', "{}"),
        ('{"*":["publish"]}', '{"[meta]log":["publish"]}', "{}"),
    ],
)
def test_names_the_narrower_resource(key: str, request_: str, result: str) -> None:
    assert both(key, request_) == result


def test_of_too_many_resources_with_a_star_is_refused() -> None:
    starred = {f"a{number}:*": frozenset("*") for number in range(STARRED_MAX + 1)}
    with pytest.raises(ValueError, match="with a star are the limit"):
        intersect(starred, {"*": frozenset("*")})
    starred.popitem()
    assert intersect(starred, {"*": frozenset("*")}) == starred


def test_of_too_many_resources_is_refused_before_it_takes_long() -> None:
    many = {f"c{number}": frozenset(OPERATIONS) for number in range(71)}
    assert len(many) ** 2 > PAIRS_MAX
    with pytest.raises(ValueError, match="too many to compare"):
        intersect(many, many)
