"""What a node knows of people: who is present, whose connection may be continued, whose credential still holds.

Everything is made here and nothing started; facts about people come from the log, by way of the node's messages.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack

from fanout.auth.connection_key import ConnectionKeys
from fanout.config import Config
from fanout.credentials import Access
from fanout.mqtt.service import Sessions
from fanout.node.messages import Messages
from fanout.occupancy import Occupancy
from fanout.presence.copies import Copies
from fanout.presence.leases import Leases
from fanout.presence.service import Presence
from fanout.revocations import Revocations
from fanout.routing import Routing
from fanout.session.limits import SessionSettings
from fanout.session.resume import ConnectionTable
from fanout.transports.mqtt_topics import Topics
from fanout.transports.terms import Terms

__all__ = ["People"]


class People:
    """The parts by their names. `clock` reads the time in ms. Belongs to the event loop."""

    def __init__(
        self,
        stack: AsyncExitStack,
        config: Config,
        routing: Routing,
        access: Access,
        settings: SessionSettings,
        messages: Messages,
        *,
        clock: Callable[[], int],
    ) -> None:
        node, engine, source, control = settings.server_id, messages.engine, messages.source, messages.control
        self.occupancy = Occupancy(engine)
        backlog = messages.backlog
        log = Copies(backlog, messages.targets.presence_topic) if routing.copies_presence else backlog
        self.presence = Presence(engine, source, node, log=log, members_max=config.presence_members)
        self.leases = Leases(engine, control, source, node, self._answers_for, log=log)
        self.topics = Topics(config.mqtt_separator)
        self.mqtt = Sessions(
            messages.mqtt_facts,
            memory=engine,
            source=source,
            publish=messages.publisher.publish,
            topics=self.topics,
            lives=self.leases,
            scratch=messages.replayer,
            node=node,
            clock=clock,
            wait=messages.interest.wait,
        )
        self.table = ConnectionTable(
            ttl_ms=settings.connection_state_ttl_ms, now=clock, limits=settings.limits, members=self.presence
        )
        self.connection_keys = ConnectionKeys(access.secret)
        self.terms = Terms(access.revoked, clock)
        stack.callback(self.terms.close)
        self.revocations = Revocations(access.revoked, control, self.terms.review, clock)

    def _answers_for(self) -> int:
        """How many the other nodes would have to act for if this one were gone."""
        return len(self.presence.members) + len(self.mqtt)
