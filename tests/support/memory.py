"""What an engine holds of a channel, whatever page it would be on."""

from fanout._core import Engine
from fanout.types import Message


def held(engine: Engine, channel: str) -> list[Message]:
    """The messages in memory, oldest first."""
    places = [(topic, partition, 0) for topic, partition, _ in engine.places(channel, None)]
    return engine.held(channel, places, 0, 1 << 60, True, (1_000, 1 << 30))[0]
