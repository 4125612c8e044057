"""What a client may have been given, when nobody has said: of a connection whose node died, or said nothing in time.

Whatever it was given before it came back was in the log by then. So up to the end of the log

- what a subscription with QoS 1 is given may have been given before, and has DUP set (MQTT 5.0 §3.3.1.1);
- nothing is given with QoS 0, for at most once is its promise.
"""

import asyncio
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from fanout.mqtt.ends import Ends
from fanout.mqtt.ports import Memory, Places
from fanout.mqtt.records import State
from fanout.transports.mqtt_ports import Place

__all__ = ["end_of_log", "given_at_most"]


async def end_of_log(channels: Iterable[str], memory: Memory, ends: Ends) -> Places:
    """The ends of the partitions that may feed these channels. Raises SourceError: what this node has read says nothing
    of what another has given.
    """
    read = {(topic, partition): offset for name in channels for topic, partition, offset in memory.places(name, None)}
    behind = await asyncio.gather(*(ends.of(*where) for where in read))
    return [(*where, max(offset, end)) for (where, offset), end in zip(read.items(), behind, strict=True)]


def given_at_most(state: State, end: Places, channel_of: Callable[[str], str | None], memory: Memory) -> State:
    """The session as it is gone on with if its client may have been given everything before `end`. `channel_of` a topic
    is its channel.
    """
    qos = {subscription.filter: subscription.qos for subscription in state.subscriptions}

    def given(place: Place) -> Place:
        channel = channel_of(place.topic)
        if channel is None:
            return place
        behind = memory.position_at(channel, end)
        return replace(place, sent=behind) if qos.get(place.filter) else replace(place, position=behind, sent="")

    return replace(state, places=tuple(map(given, state.places)))
