"""A simulation of clients that all come back at once: what a lost node, or one that is drained, means for the others.

- A client tries to connect as the published SDKs do: at once; when an attempt fails or is not answered within
  `patience_s`, again after a pause that grows and varies (Ably protocol, RTB1: 15 s, times (n + 2) / 3 up to 2, times
  0.8 to 1), and after two minutes every 30 s. Each attempt goes to a node chosen by chance, as a TCP balancer would.
- An attempt begins with a SYN. A node whose queue of accepted connections is full drops it, and the client's kernel
  repeats it after 1, 2, 4 … s (RFC 6298 §2, §5).
- A node serves its queue in order, one connection after another, each for as long. A client that lost patience still
  gets its turn, in vain: the node finds out when it answers. That is how a storm can feed itself.
- Some attempts meet a node that is gone but still in the balancer's list: refused at once.

Time goes in steps of a millisecond; the same seed gives the same storm.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

__all__ = ["SDK", "Outcome", "Policy", "Storm", "simulate"]

STEPS_PER_S = 1000
SYN_RETRY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a client insists."""

    patience_s: float = 10.0
    """For how long it waits for an attempt to succeed: the SDKs' realtimeRequestTimeout."""
    pause_s: float = 15.0
    growth_max: float = 2.0
    jitter: float = 0.2
    suspended_after_s: float = 120.0
    suspended_pause_s: float = 30.0

    def next_pause_s(self, failures: int, since_s: float, random: Random) -> float:
        """The pause after the attempt that was the `failures`-th to fail, `since_s` after the loss.

        The first attempt follows the loss at once and counts as the first retry.
        """
        if since_s >= self.suspended_after_s:
            return self.suspended_pause_s
        growth = min((failures + 3) / 3, self.growth_max)
        return self.pause_s * growth * (1 - self.jitter * random.random())


SDK = Policy()


@dataclass(frozen=True, kw_only=True)
class Storm:
    """Clients who have lost their node, and the nodes that can take them."""

    clients: int
    nodes: int
    connect_us: float
    """Of a node's event loop for one client."""
    queue: int = 2048
    """Connections that wait in a node's listen queue; the kernel's net.core.somaxconn bounds it too."""
    window_s: float = 0.0
    """Clients lose their node one after another over this time: a drain, or one after the other's heartbeat missed."""
    gone_share: float = 0.0
    """Share of attempts that meet a node which is gone, until the balancer has noticed."""
    noticed_s: float = 0.0
    policy: Policy = SDK
    horizon_s: float = 600.0
    seed: int = 1

    def on(self, nodes: int) -> "Storm":
        """The same storm on fewer nodes with as many clients each: nodes do not affect each other."""
        return replace(self, nodes=nodes, clients=round(self.clients / self.nodes * nodes))


class Outcome(NamedTuple):
    """How it went. Times are in s from a client's own loss until it is attached again; infinite where nobody is."""

    back: int
    p50_s: float
    p99_s: float
    last_s: float  # from the first client's loss until the last one is back
    attempts: float  # per client, the mean
    wasted: float  # share of connections served for clients that had given up


def simulate(storm: Storm) -> Outcome:
    """Runs the storm to its end or its horizon."""
    random = Random(storm.seed)
    calendar: defaultdict[int, list[int]] = defaultdict(list)
    lost_s = [storm.window_s * client / storm.clients for client in range(storm.clients)]
    begun_s = lost_s.copy()  # of the attempt under way
    repeats = [0] * storm.clients  # of its SYN
    failures = [0] * storm.clients
    waits: list[float] = []
    last_s = 0.0
    served = 0
    free_s = [0.0] * storm.nodes  # when each node has served all that waits
    service_s = storm.connect_us / 1e6
    full_s = storm.queue * service_s  # a queue that takes longer has no room
    patience_s = storm.policy.patience_s

    def fail(client: int, at_s: float) -> None:
        failures[client] += 1
        at_s += storm.policy.next_pause_s(failures[client], at_s - lost_s[client], random)
        begun_s[client] = at_s
        repeats[client] = 0
        calendar[int(at_s * STEPS_PER_S) + 1].append(client)

    for client, at_s in enumerate(lost_s):
        calendar[int(at_s * STEPS_PER_S)].append(client)
    for step in range(int(storm.horizon_s * STEPS_PER_S)):
        for client in calendar.pop(step, ()):
            now_s = max(step / STEPS_PER_S, begun_s[client])
            give_up_s = begun_s[client] + patience_s
            if now_s < storm.noticed_s and random.random() < storm.gone_share:
                fail(client, now_s)
                continue
            node = int(random.random() * storm.nodes)
            if free_s[node] - now_s > full_s - service_s / 2:
                again_s = now_s + SYN_RETRY_S * 2 ** repeats[client]
                repeats[client] += 1
                if again_s < give_up_s:
                    calendar[int(again_s * STEPS_PER_S)].append(client)
                else:
                    fail(client, give_up_s)
                continue
            done_s = free_s[node] = max(free_s[node], now_s) + service_s
            served += 1
            if done_s <= give_up_s:
                waits.append(done_s - lost_s[client])
                last_s = max(last_s, done_s)
            else:
                fail(client, give_up_s)
    waits.sort()
    attempts = (sum(failures) + len(waits)) / storm.clients
    return Outcome(
        back=len(waits),
        p50_s=_quantile(waits, storm.clients, 0.5),
        p99_s=_quantile(waits, storm.clients, 0.99),
        last_s=last_s,
        attempts=attempts,
        wasted=1 - len(waits) / served if served else 0.0,
    )


def _quantile(waits: list[float], clients: int, share: float) -> float:
    """The wait within which this share of all clients is back; infinite if so many never are."""
    rank = max(int(share * clients + 0.5), 1)
    return waits[rank - 1] if rank <= len(waits) else float("inf")
