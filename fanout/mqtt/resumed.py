"""What a client may have been given, when nobody has said: of a connection whose node died, or said nothing in time.

Whatever it was given before it came back was in the log by then. So all of a subscription up to the end of the log is
sent as what may have been sent before, with DUP set (MQTT 5.0 §3.3.1.1).
"""

from collections.abc import Callable

from msgspec.structs import replace

from fanout.errors import SourceError
from fanout.mqtt.ports import Log, Memory
from fanout.mqtt.records import State
from fanout.transports.mqtt_ports import Place

__all__ = ["sent_at_most"]

Ends = dict[str, dict[int, tuple[int, int]]]  # by topic; as `Log.bounds` tells them


async def sent_at_most(state: State, channel_of: Callable[[str], str | None], memory: Memory, log: Log) -> State:
    """The session with the end of the log in each place, as where messages had been sent up to. `channel_of` a topic is
    its channel. Where the log does not tell, it is what this node has read.
    """
    ends: Ends = {}
    for place in state.places:
        channel = channel_of(place.topic)
        for topic in {where[0] for where in memory.places(channel, None)} - ends.keys() if channel else ():
            try:
                ends[topic] = await log.bounds(topic)
            except SourceError:
                ends[topic] = {}
    return replace(state, places=tuple(_sent(place, channel_of(place.topic), memory, ends) for place in state.places))


def _sent(place: Place, channel: str | None, memory: Memory, ends: Ends) -> Place:
    if channel is None:
        return place
    last = [
        (topic, partition, max(offset, ends[topic].get(partition, (0, 0))[1]))
        for topic, partition, offset in memory.places(channel, None)
    ]
    return replace(place, sent=memory.position_at(channel, last))
