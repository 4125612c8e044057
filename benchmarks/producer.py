"""Writes numbered messages to a Kafka topic: the other end of the benchmarks that read from a real one.

    python -m benchmarks.producer HOST:PORT TOPIC [--channels N] [--first-channel N] [--payload BYTES]

Obeys each line of standard input, answers it with one of JSON, ends when standard input does:

- `send COUNT`: COUNT messages to each channel, at once; answered when the client library has them.
- `pace COUNT RATE`: COUNT messages to each channel, RATE records a second in all channels together, the channels in
  turn; answered when the broker has confirmed all, with the time it took and how far behind its schedule it ever was.

Keys are `load-0`, `load-1`, … from the first channel on; the n-th message of a channel is `n SENT_US xxx`, stamped when
it is produced. Nothing is sent twice: a record that the broker does not confirm the first time ends the producer, and
so the run.
"""

import argparse
import json
import sys
import time

from confluent_kafka import KafkaError, Message, Producer

LINGER_MS = 2  # what comes together goes out together; part of the latency that is measured
LOOK_S = 0.001  # the longest rest while pacing
FLUSH_S = 60
WAITING_MAX = 200_000  # records in the library


class Feed:
    """The messages of all channels, in turn."""

    def __init__(self, bootstrap: str, topic: str, channels: range, payload: int) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "retries": 0,
                "linger.ms": LINGER_MS,
                "queue.buffering.max.messages": WAITING_MAX,
            }
        )
        self._topic = topic
        self._keys = [f"load-{channel}".encode() for channel in channels]
        self._payload = payload
        self._next = 0  # sequence number, the same in every channel

    def send(self, count: int) -> dict[str, float]:
        for number in range(self._next, self._next + count):
            for key in self._keys:
                self._produce(number, key)
        self._next += count
        self._producer.poll(0)
        return {"sent": self._next}

    def pace(self, count: int, rate: int) -> dict[str, float]:
        total = count * len(self._keys)
        begun = time.monotonic()
        done, behind = 0, 0.0
        while done < total:
            late = time.monotonic() - begun - done / rate
            if late < 0:
                self._producer.poll(0)
                time.sleep(min(-late, LOOK_S))
                continue
            behind = max(behind, late)
            turn, channel = divmod(done, len(self._keys))
            self._produce(self._next + turn, self._keys[channel])
            done += 1
        seconds = time.monotonic() - begun
        self._next += count
        if self._producer.flush(FLUSH_S):
            raise SystemExit("Kafka does not confirm what was produced")
        return {"sent": self._next, "seconds": seconds, "behind_ms": behind * 1000}

    def _produce(self, number: int, key: bytes) -> None:
        value = b"%d %d " % (number, time.monotonic_ns() // 1000)
        self._producer.produce(self._topic, value.ljust(self._payload, b"x"), key, on_delivery=self._confirmed)

    @staticmethod
    def _confirmed(error: KafkaError | None, _: "Message[bytes, bytes]") -> None:
        if error is not None:
            raise SystemExit(f"Kafka refused a record: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes numbered messages to a Kafka topic.")
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--first-channel", type=int, default=0)
    parser.add_argument("--payload", type=int, default=128)
    options = parser.parse_args()
    channels = range(options.first_channel, options.first_channel + options.channels)
    feed = Feed(options.bootstrap, options.topic, channels, options.payload)
    for line in sys.stdin:
        match line.split():
            case ["send", count]:
                answer = feed.send(int(count))
            case ["pace", count, rate]:
                answer = feed.pace(int(count), int(rate))
            case _:
                raise SystemExit(f"what is {line!r}?")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
