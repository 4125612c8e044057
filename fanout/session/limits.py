"""Every bound of a conversation, with its reason. What passes a bound gets the numbered error named beside it."""

from dataclasses import dataclass, field

from fanout.wire import FRAME_BYTES

__all__ = ["Limits", "SessionSettings"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds per connection unless they say otherwise. Raises ValueError where two contradict each other."""

    attachments: int = 200
    """Channels at once, spellings counted apart: 90010. The protocol's usual number."""

    channel_bytes: int = 1_024
    """A channel's name with its qualifier: 40010. The engine takes no longer ones; they are part of every frame."""

    message_bytes: int = 65_536
    """Name, client id, data and extras of one publish together: 40009. SDKs assume this number."""

    messages_per_frame: int = 1_000
    """Messages in one publish, which is written as a whole: 40034."""

    message_id_bytes: int = 256
    """A message id that a client chose: 40031. Every node remembers ids for the whole de-duplication window."""

    encoding_bytes: int = 256
    """A message's encoding: 40013. The size rule of the protocol leaves it out, so it needs a bound of its own."""

    serial_bytes: int = 320
    """The serial by which a client names a message: 40003. The longest there is has a topic's 249 characters in it."""

    annotations_per_frame: int = 100
    """Annotations in one frame or request, each of which is looked up: 40034."""

    annotation_type_bytes: int = 256
    """An annotation's type, and its name: 40000. Summaries keep them, and are sent to everybody."""

    extras_depth: int = 32
    """Objects and arrays within each other in a message's extras, themselves included: 40032. Every reader must be able
    to parse them, and readers have limits of their own, some at about a hundred; SDKs need 2."""

    messages_in_flight: int = 4_096
    """Messages handed to the log and not confirmed yet: 42911. A fifth of what a source takes in all."""

    bytes_in_flight: int = 8 << 20
    """Their size, by the rule of `message_bytes`: 42911. Publishes of the largest size are 128 then."""

    answers_waiting: int = 8_192
    """Publishes, refused ones included, whose answer waits for an earlier one's: past it the connection ends, 42924."""

    answers_kept: int = 2_000
    """Serials of answered publishes kept for a client that re-sends them, at about 300 bytes each. Older ones
    are written again under the same id and recognised from the log."""

    rewind_messages: int = 100
    """Messages that `rewind` sends again: what goes beyond is cut off and said so, 90004. The protocol's number."""

    ahead_retry_ms: int = 20
    """Time between two looks at a position that this node has yet to read."""

    ahead_wait_ms: int = 5_000
    """Longest wait for such a position, 90003 after it: half of what clients allow an ATTACH to take."""

    def __post_init__(self) -> None:
        if self.message_bytes >= FRAME_BYTES:
            raise ValueError("a message of message_bytes does not fit into a frame")
        if self.bytes_in_flight < self.message_bytes or self.messages_in_flight < self.messages_per_frame:
            raise ValueError("one permitted publish is more than may be in flight")
        if self.answers_waiting < self.messages_in_flight:
            raise ValueError("answers_waiting must have room for messages_in_flight")


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the node tells its sessions. Times are in ms."""

    max_idle_ms: int = 15_000
    """A client may give the connection up when it has heard nothing for this long and a little more."""

    connection_state_ttl_ms: int = 120_000
    """How long a lost connection can be continued; not longer than the log recognises repeated message ids."""

    server_id: str = "fanout"
    """Shown to clients, for people who look for the node that answered."""

    limits: Limits = field(default_factory=Limits)
