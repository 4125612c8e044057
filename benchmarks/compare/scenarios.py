"""What is measured of each contender: deliveries in lock-step, saturated and at a rate; memory held idle; connecting.

- Rounds of all contenders take turns, so that all meet the same machine.
- Each round is one `Figures`: a row of numbers. A delivery that is lost, doubled or out of order ends the run.
- What a round has measured is told at once, so that a run that is interrupted keeps what it has.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.compare.contenders import Contender
from benchmarks.harness import Crowd, Program, Received, Tools, settled, wait_until

__all__ = ["SCENARIOS", "Figures", "Settings"]

Figures = dict[str, float]
Told = Callable[[str, int, Figures], None]

WARM_MESSAGES = 8  # before anything is measured, and once more before each round: caches are others' in between
QUIET_S = 0.1
QUIET_CPU_S = 0.002
HELD_S = 2.0  # what is made while connecting is given back in it, or held
FIRST = 10  # connections before memory is first read: what these make, the others share


@dataclass(frozen=True)
class Settings:
    """One run. `seconds` is the server's CPU time for each round of deliveries, or the wall time at a rate."""

    subscribers: int
    payload: int
    window: int
    rate: float
    seconds: float
    rounds: int


def figures(received: Received) -> Figures:
    """A round of deliveries in numbers."""
    report, cost = received.report, received.cost
    return {
        "cpu_us": received.cpu_us,
        "user_us": cost.user_s / received.deliveries * 1e6,
        "per_cpu_s": received.deliveries / cost.cpu_s,
        "per_s": received.deliveries / cost.wall_s,
        "messages_per_read": received.deliveries / report["reads"],
        "bytes_per_message": report["bytes"] / received.deliveries,
        "mean_ms": report["mean_us"] / 1000,
        "p50_ms": report["p50_us"] / 1000,
        "p99_ms": report["p99_us"] / 1000,
        "feeder_behind_ms": received.behind_ms,
        "deliveries": received.deliveries,
    }


def deliver(
    tools: Tools,
    contenders: Sequence[Contender],
    settings: Settings,
    told: Told,
    step: Callable[[Crowd, float], Received],
) -> None:
    """All contenders up, with their subscribers; `step` is a round of one, who is told what a delivery costs it."""
    with ExitStack() as stack:
        crowds: dict[str, Crowd] = {}
        prices: dict[str, float] = {}
        for contender in contenders:
            running = stack.enter_context(contender.start(settings.subscribers, settings.payload))
            clients = stack.enter_context(running.clients(tools, settings.subscribers))
            running.joined(clients, settings.subscribers)
            crowd = crowds[contender.name] = running.crowd(clients, settings.subscribers)
            crowd.one_at_a_time(2)
            prices[contender.name] = step(crowd, 0.0).cpu_us
        for number in range(settings.rounds):
            for name, crowd in crowds.items():
                crowd.one_at_a_time(2)
                told(name, number, figures(step(crowd, prices[name])))
        settled(*(crowd.clients for crowd in crowds.values()))


def messages(settings: Settings, price: float, least: int) -> int:
    """How many messages cost a server `seconds`, by what a delivery costs it in µs; at least so many."""
    return max(least, round(settings.seconds * 1e6 / (price * settings.subscribers)) if price else 0)


def lockstep(tools: Tools, contenders: Sequence[Contender], settings: Settings, told: Told) -> None:
    """One message a flush: each is sent when all subscribers have the one before, so that nothing can be joined."""

    def step(crowd: Crowd, price: float) -> Received:
        return crowd.one_at_a_time(messages(settings, price, WARM_MESSAGES))

    deliver(tools, contenders, settings, told, step)


def saturated(tools: Tools, contenders: Sequence[Contender], settings: Settings, told: Told) -> None:
    """`window` messages are under way; as soon as all have half of them, as many follow."""

    def step(crowd: Crowd, price: float) -> Received:
        return crowd.windowed(messages(settings, price, 4 * settings.window), settings.window)

    deliver(tools, contenders, settings, told, step)


def rate(tools: Tools, contenders: Sequence[Contender], settings: Settings, told: Told) -> None:
    """`rate` messages a second, whether or not the ones before have arrived."""

    def step(crowd: Crowd, price: float) -> Received:
        count = round(settings.rate * settings.seconds) if price else WARM_MESSAGES
        return crowd.paced(max(count, WARM_MESSAGES), settings.rate)

    deliver(tools, contenders, settings, told, step)


def memory(tools: Tools, contenders: Sequence[Contender], settings: Settings, told: Told) -> None:
    """The server's own bytes for each of `subscribers` silent connections; a fresh server each round."""
    for number in range(settings.rounds):
        for contender in contenders:
            with contender.start(settings.subscribers + FIRST, settings.payload) as running:
                server = running.server
                with running.clients(tools, FIRST) as first:
                    running.joined(first, FIRST)
                    time.sleep(HELD_S)
                    empty = server.memory()
                    with running.clients(tools, settings.subscribers) as clients:
                        running.joined(clients, settings.subscribers)
                        time.sleep(HELD_S)
                        held = server.memory()
            told(
                contender.name,
                number,
                {"bytes": (held - empty) / settings.subscribers, "empty_mib": empty / 2**20, "held_mib": held / 2**20},
            )


def connect(tools: Tools, contenders: Sequence[Contender], settings: Settings, told: Told) -> None:
    """Accept, upgrade and subscribe `subscribers` connections, 64 at a time; a server that has seen a tenth before."""
    before = settings.subscribers // 10
    for number in range(settings.rounds):
        for contender in contenders:
            with contender.start(settings.subscribers, settings.payload) as running:
                if not running.tells_accepted:
                    with running.clients(tools, before) as warm:
                        running.joined(warm, before)
                wait_until_quiet(running.server)
                cost = running.server.cost()
                with running.clients(tools, settings.subscribers) as clients:
                    seconds = running.joined(clients, settings.subscribers)
                    cpu_s = (running.server.cost() - cost).cpu_s
            connection_us = cpu_s / settings.subscribers * 1e6
            told(contender.name, number, {"cpu_us": connection_us, "per_s": settings.subscribers / seconds})


def wait_until_quiet(server: Program) -> None:
    """Until it does next to nothing: what was closed has been cleared away."""

    def is_quiet() -> bool:
        before = server.cost()
        time.sleep(QUIET_S)
        return (server.cost() - before).cpu_s < QUIET_CPU_S

    wait_until(is_quiet, "a server at rest")


SCENARIOS: dict[str, Callable[[Tools, Sequence[Contender], Settings, Told], None]] = {
    "lockstep": lockstep,
    "saturated": saturated,
    "rate": rate,
    "memory": memory,
    "connect": connect,
}
