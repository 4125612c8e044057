"""The long form of the chaos run: `python -m tests.chaos --minutes 10`."""

import argparse
import secrets
import sys

import uvloop

from fanout.audit.transports import TRANSPORTS
from tests.chaos.run import Scale, chaos


def main() -> int:
    """Runs it, prints what happens and the verdict; 0 if the promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long faults happen (10)")
    parser.add_argument("--down", type=float, default=60, metavar="S", help="how long all brokers are down (60)")
    parser.add_argument("--nodes", type=int, default=2, help="fanout nodes (2)")
    parser.add_argument("--subscribers", type=int, default=2_000)
    parser.add_argument("--channels", type=int, default=200)
    parser.add_argument("--attachments", type=int, default=10, help="channels of each subscriber (10)")
    parser.add_argument("--rate", type=float, default=240, help="messages a second (240)")
    parser.add_argument("--history", default="2m", help="history window of the nodes (2m)")
    parser.add_argument(
        "--read", choices=["all", "needed"], default="all", help="partitions that each node reads (all)"
    )
    parser.add_argument(
        "--transport", nargs="+", choices=TRANSPORTS, default=[*TRANSPORTS], help="of the subscribers, in turn (all)"
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="of the dice")
    given = parser.parse_args()
    scale = Scale(
        seconds=given.minutes * 60,
        brokers_down_s=given.down,
        nodes=given.nodes,
        subscribers=given.subscribers,
        channels=given.channels,
        attachments=given.attachments,
        rate=given.rate,
        history=given.history,
        read=given.read,
        transports=tuple(given.transport),
    )
    outcome = uvloop.run(chaos(scale, given.seed, lambda line: print(line, flush=True)))
    print(outcome)
    return 0 if outcome.exact else 1


if __name__ == "__main__":
    sys.exit(main())
