"""What things cost one node: the only numbers that the model takes from the world."""

from dataclasses import dataclass

__all__ = ["Costs"]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one node pays, in CPU time of its whole process unless it says otherwise."""

    write_rare_us: float
    """One write to one client when each message leaves alone, long after the one before: caches are cold."""
    write_busy_us: float
    """One write of several messages when writes follow each other without a pause."""
    record_100_us: float
    """Reading one record of 100 bytes from Kafka into the engine."""
    record_1024_us: float
    """The same of 1,024 bytes."""
    records_100_per_s: float
    """Records of 100 bytes that one node takes in a second of wall time; one thread reads."""
    records_1024_per_s: float
    """The same of 1,024 bytes."""
    batch_of_20_us: float
    """Reading 20 records of 128 bytes that arrive together, long after those before."""
    connect_us: float
    """Accept, upgrade, authenticate, attach to one channel."""
    reconnect_us: float
    """The same for a client that resumes on another node and is given what it missed."""
    connection_bytes: float
    """Memory of one connection with one attachment."""
    attachment_bytes: float
    """Memory of each further attachment of a connection."""
    node_bytes: float
    """Memory of a node without clients and without history."""
    message_overhead_bytes: float
    """Memory of one message in a ring beside its payload."""
    record_overhead_bytes: float
    """Bytes that a broker sends for one record beside its payload, in full batches without compression."""
    delivery_overhead_bytes: float
    """Bytes sent to a client for one message beside its payload, each message in a frame of its own, JSON."""

    def record_us(self, payload_bytes: float) -> float:
        """CPU time to take in one record of this size: a straight line through the two that were measured."""
        return _line(self.record_100_us, self.record_1024_us, payload_bytes)

    def record_wall_us(self, payload_bytes: float) -> float:
        """How long the reading thread is busy with one record, likewise."""
        return _line(1e6 / self.records_100_per_s, 1e6 / self.records_1024_per_s, payload_bytes)

    @property
    def batch_us(self) -> float:
        """What a batch of records costs beside its records: waking the threads that read and write."""
        return max(self.batch_of_20_us - 20 * self.record_us(128), 0.0)


def _line(at_100: float, at_1024: float, payload_bytes: float) -> float:
    return max(at_100 + (at_1024 - at_100) * (payload_bytes - 100) / (1024 - 100), 0.0)
