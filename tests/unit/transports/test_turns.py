"""The time that clients share in a turn of the loop. Here hearing a message takes a time of the test's choice."""

import asyncio
from collections import deque

import pytest

from fanout.transports import turns
from fanout.transports.turns import BRIEF_MAX, TURN_S, Turns


class Room:
    """A loop's clients, and what was heard of them: one list for each turn of the loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 1_000.0
        self.turns = Turns(clock=lambda: self.now)
        self.heard: list[list[str]] = [[]]

    def hear(self, said: str) -> None:
        self.now += self.seconds
        self.heard[-1].append(said)
        if said.endswith("!"):
            raise ValueError(said)

    async def pass_turns(self) -> list[list[str]]:
        """Lets the loop turn until nobody waits; what was heard in each turn."""
        while self.turns._line:
            self.heard.append([])
            await asyncio.sleep(0)
        return [turn for turn in self.heard if turn]


class Client:
    """Speaks as a driver does: at once if it may, and otherwise when it is asked to go on."""

    def __init__(self, room: Room, *, brief: bool = False) -> None:
        self.room = room
        self.brief = brief
        self.unheard: deque[str] = deque()

    def say(self, *messages: str) -> None:
        for message in messages:
            self.unheard.append(message)
        self.go_on()

    def go_on(self) -> None:
        while self.unheard and self.room.turns.take(self, brief=self.brief):
            self.room.hear(self.unheard.popleft())


async def test_one_message_is_heard_in_each_turn_however_long_it_takes() -> None:
    room = Room(10 * TURN_S)
    Client(room).say("a", "b", "c")
    assert await room.pass_turns() == [["a"], ["b"], ["c"]]


async def test_a_turn_hears_as_many_as_its_time_allows() -> None:
    room = Room(TURN_S / 2.5)
    Client(room).say("a", "b", "c", "d")
    assert await room.pass_turns() == [["a", "b", "c"], ["d"]]


async def test_everybody_has_a_turn_in_the_order_of_arrival_and_is_heard_in_order() -> None:
    room = Room(10 * TURN_S)
    for name in "abc":
        Client(room).say(f"{name}1", f"{name}2")
    assert await room.pass_turns() == [["a1"], ["a2"], ["b1"], ["c1"], ["b2"], ["c2"]]


async def test_who_comes_while_others_stand_in_line_stands_behind_them() -> None:
    room = Room(TURN_S)
    Client(room).say("a1", "a2")
    room.now -= TURN_S  # as much time as if nothing had been heard
    Client(room).say("b")
    assert await room.pass_turns() == [["a1"], ["a2"], ["b"]]


async def test_a_client_stands_in_line_once() -> None:
    room = Room(10 * TURN_S)
    Client(room).say("a")
    busy = Client(room)
    busy.say("b")
    busy.say("c")
    assert len(room.turns._line) == 1
    assert await room.pass_turns() == [["a"], ["b"], ["c"]]


async def test_one_that_raises_costs_the_others_nothing() -> None:
    room = Room(0)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    Client(room).say("a")
    room.now += TURN_S
    Client(room).say("b!")
    Client(room).say("c")
    assert await room.pass_turns() == [["a"], ["b!"], ["c"]]
    assert [str(failure) for failure in failures] == ["b!"]


async def test_a_new_turn_has_its_whole_time() -> None:
    room = Room(TURN_S)
    client = Client(room)
    client.say("a")
    await asyncio.sleep(0)
    client.say("b")
    assert room.heard == [["a", "b"]]


async def test_a_brief_message_is_heard_before_those_who_stand_in_line() -> None:
    room = Room(TURN_S)
    Client(room).say("a1", "a2")
    Client(room, brief=True).say("b")
    assert await room.pass_turns() == [["a1", "b"], ["a2"]]


async def test_but_one_of_each_client_and_in_order() -> None:
    room = Room(TURN_S)
    Client(room).say("a1", "a2")
    Client(room, brief=True).say("b1", "b2", "b3")
    assert await room.pass_turns() == [["a1", "b1"], ["a2"], ["b2"], ["b3"]]


async def test_and_of_so_many_clients_in_a_turn() -> None:
    room = Room(TURN_S)
    for number in range(BRIEF_MAX + 3):
        Client(room, brief=True).say(str(number))
    first, *others = await room.pass_turns()
    assert first == [str(number) for number in range(BRIEF_MAX + 1)], "its time's own one, and these"
    assert others == [[str(BRIEF_MAX + 1)], [str(BRIEF_MAX + 2)]]


async def test_one_who_has_much_to_do_gives_the_others_their_turn_between() -> None:
    room = Room(TURN_S / 2.5)
    Client(room).say(*"abcdefgh")
    for name in "xyz":
        Client(room).say(name)
    heard = await room.pass_turns()
    assert max(map(len, heard)) == 3, "the time of a turn, and of one more"
    assert heard[1][:3] == ["d", "e", "f"]
    assert heard[2] == ["x", "y", "z"]
    assert heard[3] == ["g", "h"]


async def test_a_turn_at_whose_end_somebody_still_waits_leaves_the_core_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = Room(10 * TURN_S)
    left: list[int] = []
    monkeypatch.setattr(turns, "give_way", lambda: left.append(sum(map(len, room.heard))))
    Client(room).say("a", "b", "c")
    await room.pass_turns()
    assert left == [2], "and nobody waits for the third"
