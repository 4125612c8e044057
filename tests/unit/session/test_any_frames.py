"""Whatever a client says, in whatever order: nothing raises, and answers are given once and in order."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.errors import error
from fanout.session.effects import Attach, Detach, Effect, Present, Publish, Replay, Reply, Retry
from fanout.session.limits import Limits
from fanout.session.ports import Outcome
from fanout.session.resume import ConnectionState
from fanout.wire import JSON, MSGPACK, Auth, ClientAnnotation, ClientFrame, ClientMessage, ClientPresence, encode
from tests.support.conversation import CONNECTION_ID, Conversation, FakePlan

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines that test are busy

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
CHANNELS = st.sampled_from(["a", "b", "[?rewind=1]a", "[meta]x", "", ":", "a\nb"]) | st.text(max_size=5)
PARAMS = st.dictionaries(
    st.sampled_from(["rewind", "rewindLimit", "modes", "echo", "_forceNack"]),
    st.sampled_from(["1", "2m", "500", "true", "subscribe", ""])
    | st.integers()
    | st.booleans()
    | st.none()
    | st.text(),
)
MESSAGES = st.builds(
    ClientMessage, id=ANYTHING, name=ANYTHING, data=ANYTHING, encoding=ANYTHING, client_id=ANYTHING, extras=ANYTHING,
    action=ANYTHING | st.sampled_from([1, 2, 5]), serial=ANYTHING, version=ANYTHING,
)  # fmt: skip
ANNOTATIONS = st.builds(
    ClientAnnotation, id=ANYTHING, action=ANYTHING, message_serial=ANYTHING, type=ANYTHING, name=ANYTHING,
    count=ANYTHING, data=ANYTHING, encoding=ANYTHING, client_id=ANYTHING, extras=ANYTHING,
)  # fmt: skip
EVENTS = st.builds(
    ClientPresence, id=ANYTHING, action=st.integers(0, 6) | ANYTHING, client_id=ANYTHING, data=ANYTHING,
    encoding=ANYTHING, extras=ANYTHING,
)  # fmt: skip
FRAMES = st.builds(
    ClientFrame,
    action=st.integers(0, 25),
    channel=st.none() | CHANNELS,
    channel_serial=st.none() | st.text(max_size=5),
    flags=st.none() | st.integers(0, 2**63 - 1),
    params=st.none() | PARAMS,
    msg_serial=st.none() | st.integers(0, 5),
    id=st.none() | st.text(max_size=5),
    messages=st.none() | st.lists(MESSAGES, max_size=3),
    presence=st.none() | st.lists(EVENTS, max_size=3),
    auth=st.none() | st.builds(Auth, st.none() | st.text(max_size=5)),
    annotations=st.none() | st.lists(ANNOTATIONS, max_size=3),
)
PLANS = st.builds(FakePlan, st.sampled_from(Outcome), st.text(max_size=3), st.integers(0, 200))


def printable(effects: list[Effect], wire: int) -> None:
    """Every frame among effects can be sent."""
    for effect in effects:
        if isinstance(effect, Reply | Attach | Detach):
            assert encode(effect.frame, wire)
            assert effect.frame.get("channel", "") is not None


@UNHURRIED
@given(st.lists(FRAMES, max_size=20), st.lists(PLANS, max_size=5), st.sampled_from([JSON, MSGPACK]))
def test_no_sequence_of_frames_raises_and_every_answer_can_be_sent(
    said: list[ClientFrame], plans: list[FakePlan], wire: int
) -> None:
    client = Conversation(*plans, wire=wire)
    for frame in said:
        effects = client.hand(frame)
        printable(effects, wire)
        for effect in effects:
            if isinstance(effect, Retry):
                client.now_ms += 2_500
                printable(client.hand(effect.frame), wire)
            elif isinstance(effect, Replay):
                for later in client.replay(effect, error(50003)):
                    assert isinstance(later, Retry)
                    printable(client.hand(later.frame), wire)
                printable(client.replay(effect, plans[0]), wire)
            elif isinstance(effect, Publish):
                assert 0 < len(effect.messages) <= 3
            elif isinstance(effect, Present):
                assert 0 < len(effect.events) <= 3


def answered(effects: list[Effect]) -> list[int]:
    """The msgSerials that ACKs and NACKs among effects answer, in their order."""
    found: list[int] = []
    for effect in effects:
        if isinstance(effect, Reply) and effect.frame["action"] in (1, 2):
            first, count = effect.frame["msgSerial"], effect.frame["count"]
            found.extend(range(first, first + count))
            if effect.frame["action"] == 1:
                assert len(effect.frame["res"]) == count
    return found


@UNHURRIED
@given(st.data(), st.integers(0, 3), st.lists(st.booleans(), min_size=1, max_size=12))
def test_answers_are_complete_and_in_order_however_the_log_confirms(
    data: st.DataObject, first: int, good: list[bool]
) -> None:
    client = Conversation()
    for number, valid in enumerate(good):
        client.publish(first + number, {"data": "x" if valid else 5})
    for serial in data.draw(st.permutations([one.msg_serial for one in client.published])):
        if data.draw(st.booleans()):
            client.confirm(serial)
        else:
            client.effects.extend(client.session.refused(serial, error(50003)))
    assert answered(client.effects) == list(range(first, first + len(good)))


@UNHURRIED
@given(st.data())
def test_a_client_that_loses_its_transport_at_any_moment_gets_every_answer_once_and_nothing_is_written_twice(
    data: st.DataObject,
) -> None:
    state = ConnectionState(CONNECTION_ID, Limits())
    client = Conversation(state=state)
    clients = [client]
    in_flight: list[tuple[Conversation, int]] = []
    written: list[int] = []
    acknowledged, next_serial = 0, 0
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["publish", "confirm", "lose"])):
            case "publish":
                client.publish(next_serial)
                next_serial += 1
            case "confirm" if in_flight:
                by, serial = in_flight.pop(data.draw(st.integers(0, len(in_flight) - 1)))
                by.confirm(serial)
            case "lose":
                # The last few answers may be lost with the transport: the client knows of fewer than were sent.
                known = answered(client.effects)
                acknowledged = data.draw(st.integers(acknowledged, known[-1] + 1)) if known else acknowledged
                if data.draw(st.booleans()):
                    client.session.closed()
                client = Conversation(state=state)
                clients.append(client)
                for serial in range(acknowledged, next_serial):
                    client.publish(serial)
        for one in clients:
            new = [effect.msg_serial for effect in one.published if effect.msg_serial not in written]
            written += new
            in_flight += [(one, serial) for serial in new]
        assert answered(client.effects) == list(range(acknowledged, acknowledged + len(answered(client.effects))))
    for by, serial in in_flight:
        by.confirm(serial)
    everything: list[Any] = [effect.msg_serial for one in clients for effect in one.published]
    assert sorted(everything) == list(range(next_serial)), "each was written once"
    assert answered(client.effects)[-1:] in ([], [next_serial - 1])
