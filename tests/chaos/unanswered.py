"""SIGKILL of a node between a record's being written and its publisher's being told, again and again.

    python -m tests.chaos.unanswered --count 1000

Publishers send in bursts, and the node is killed in the middle of each. What of a burst the log had and no answer came
for is sent again to the node that is started in its place; the audit counts those, and judges.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvloop

from fanout.audit.log import KafkaLog
from fanout.audit.report import Report
from fanout.audit.run import Audit, Plan
from tests.support.broker import Kafka, running
from tests.support.node import KEY, node_process

__all__ = ["kill_before_answers"]

TOPIC = "fanout.messages"
PUBLISHERS = 50
BURST = 10  # messages of each publisher
PATIENCE_S = 60.0
KILLS_MAX = 1_000


async def kill_before_answers(
    kafka: Kafka, directory: Path, count: int, say: Callable[[str], None] = lambda line: None
) -> Report:
    """Goes on until that many publishes were in the log when they were sent again."""
    dice = random.Random(count)
    async with node_process(directory, "--kafka", kafka.bootstrap) as node:
        log = await asyncio.to_thread(lambda: KafkaLog(kafka.client, [TOPIC]))
        plan = Plan(urls=(node.url,), key=KEY, channels=10, subscribers=10, publishers=PUBLISHERS)
        try:
            async with Audit(plan, log, (TOPIC,)) as audit:
                for kills in range(1, KILLS_MAX):
                    for publisher in audit.publishers:
                        await publisher.burst(BURST)
                    await asyncio.sleep(dice.uniform(0, 0.03))
                    await node.kill()
                    await node.start()
                    report = await audit.finish(PATIENCE_S)
                    say(f"{kills} kills, {report.published.cut_off} written and not answered")
                    if not report.exact or report.published.cut_off >= count:
                        break
                return report
        finally:
            log.close()


def main() -> int:
    """The long form; 0 if every publish is in the log once and was delivered once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.unanswered", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="publishes to be cut off from their answers (1000)")
    count = parser.parse_args().count
    with running() as kafka, tempfile.TemporaryDirectory(prefix="fanout-chaos-") as directory:
        say: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731
        report = uvloop.run(kill_before_answers(kafka, Path(directory), count, say))
    print(report)
    return 0 if report.exact else 1


if __name__ == "__main__":
    sys.exit(main())
