"""A chaos run: an audit on a site where something goes wrong all the time, and its verdict.

    python -m tests.chaos --minutes 10

It begins with a rolling drain, in the middle all brokers are down at once, and the others come as the dice say, whose
seed is printed. Faults of clients happen all the time beside those of the site. What nodes log is kept if the promise
was broken.
"""

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fanout.audit.log import KafkaLog
from fanout.audit.report import Report
from fanout.audit.run import Audit, Plan, tell
from fanout.audit.transports import TRANSPORTS
from tests.chaos.faults import CLIENT_FAULTS, SITE_FAULTS, TOPIC, Fault, Scene, brokers_down, rolling_drain
from tests.chaos.members import Members
from tests.chaos.site import site
from tests.support.node import KEY

__all__ = ["Outcome", "Scale", "chaos"]

CLIENT_FAULT_EVERY_S = 5.0
CALM_S = 3.0  # between two faults of the site
PATIENCE_S = 120.0
NEEDED = f'[[route]]\ntopic = "{TOPIC}"\nchannel = "#{{key}}"\npartitioner = "murmur2"\nread = "needed"\n'
RECEIVE_BUFFER = 4_096  # bytes: who does not read is noticed before the fault is over


@dataclass(frozen=True)
class Scale:
    """How much, and for how long."""

    seconds: float
    brokers_down_s: float
    nodes: int = 2
    subscribers: int = 2_000
    channels: int = 200
    attachments: int = 10
    publishers: int = 20
    rate: float = 240.0
    size: int = 300
    members: int = 20
    history: str = "2m"
    read: str = "all"
    """Of the topic's partitions each node reads `all`, or those that are `needed` by who is there."""
    transports: tuple[str, ...] = tuple(TRANSPORTS)


@dataclass
class Outcome:
    """What came of it."""

    report: Report
    faults: Counter[str] = field(default_factory=Counter)
    false_leaves: int = 0
    missing_members: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return self.report.exact and not self.false_leaves and not self.missing_members

    def __str__(self) -> str:
        faults = ", ".join(f"{times} {name}" for name, times in sorted(self.faults.items()))
        members = f"{self.false_leaves} false leaves on drains, {len(self.missing_members)} members missing at the end"
        verdict = "the promise was kept" if self.exact else "the promise was BROKEN"
        return f"{self.report}\nfaults     {faults}\npresence   {members}\n{verdict}"


async def chaos(scale: Scale, seed: int, say: Callable[[str], None]) -> Outcome:
    """Runs it all. Raises what a site raises that cannot be started, or mended."""
    say(f"seed {seed}")
    directory = Path(tempfile.mkdtemp(prefix="fanout-chaos-"))
    is_exact = False
    try:
        outcome = await _on_a_site(directory, scale, seed, say)
        is_exact = outcome.exact
        return outcome
    finally:
        if is_exact:
            shutil.rmtree(directory)
        else:
            say(f"what the nodes logged is in {directory}/*/server.log")


async def _on_a_site(directory: Path, scale: Scale, seed: int, say: Callable[[str], None]) -> Outcome:
    options = ["--history", scale.history]
    if scale.read == "needed":
        rules = directory / "rules.toml"
        rules.write_text(NEEDED)
        options += ["--rules", str(rules)]
    async with site(directory, scale.nodes, *options) as place:
        plan = Plan(
            urls=place.urls,
            mqtt_urls=place.mqtt_urls,
            transports=scale.transports,
            key=KEY,
            channels=scale.channels,
            subscribers=scale.subscribers,
            attachments=scale.attachments,
            publishers=scale.publishers,
            rate=scale.rate,
            size=scale.size,
            receive_buffer=RECEIVE_BUFFER,
        )
        log = await asyncio.to_thread(lambda: KafkaLog(place.kafka.client, [TOPIC]))
        try:
            async with Audit(plan, log, (TOPIC,)) as audit, Members(place.urls, scale.members) as members:
                return await _run(scale, Scene(place, audit, members, random.Random(seed)), say)
        finally:
            log.close()


async def _run(scale: Scale, scene: Scene, say: Callable[[str], None]) -> Outcome:
    faults = Counter[str]()
    began = time.monotonic()
    say(f"seconds count from {time.strftime('%H:%M:%S')}")

    async def suffer(fault: Fault) -> None:
        faults[fault.__name__] += 1
        say(f"{time.monotonic() - began:6.1f} s  {fault.__name__}")
        await fault(scene)

    stop = asyncio.Event()
    beside = [
        asyncio.create_task(one)
        for one in (_clients_suffer(scene, suffer), _tend(scene.members), tell(scene.audit, say))
    ]
    publishing = asyncio.create_task(scene.audit.publish(stop))
    try:
        for fault in _schedule(scale, scene):
            await suffer(fault)
            await asyncio.sleep(CALM_S)
        stop.set()
        beside[0].cancel()
        await asyncio.gather(publishing, beside[0])
        say(f"{time.monotonic() - began:6.1f} s  everything is mended; waiting for what is due")
        missing = await scene.members.missing(PATIENCE_S)
        report = await scene.audit.finish(PATIENCE_S)
    finally:
        for task in (*beside, publishing):
            task.cancel()
        await asyncio.gather(*beside, publishing, return_exceptions=True)
    return Outcome(report, faults, scene.false_leaves, missing)


def _schedule(scale: Scale, scene: Scene) -> Iterator[Fault]:
    """The faults of the site: a drain, and then, as long as there is time, each of the others in turn, in any order."""
    yield rolling_drain
    began, is_down = time.monotonic(), False
    while True:
        for fault in scene.dice.sample(SITE_FAULTS, len(SITE_FAULTS)):
            at = time.monotonic() - began
            if at > scale.seconds / 2 and not is_down:  # also on a machine so slow that the time is over by now
                is_down = True
                yield brokers_down(scale.brokers_down_s)
            if at > scale.seconds:
                return
            yield fault


async def _clients_suffer(scene: Scene, suffer: Callable[[Fault], Awaitable[None]]) -> None:
    """Until it is cancelled; what has begun is mended first."""
    async with asyncio.TaskGroup() as under_way:
        try:
            while True:
                await asyncio.sleep(CLIENT_FAULT_EVERY_S)
                under_way.create_task(_awaited(suffer(scene.dice.choice(CLIENT_FAULTS))))
        except asyncio.CancelledError:
            return


async def _awaited(fault: Awaitable[None]) -> None:
    await fault


async def _tend(members: Members) -> None:
    while True:
        await asyncio.sleep(1)
        for client in members.clients:
            client.tend()
