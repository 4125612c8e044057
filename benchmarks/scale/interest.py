"""Which share of the log the clients of one node need: channels fall into partitions like balls into bins.

A record's key chooses its partition by a hash, so that each channel lies in one of them, all equally likely. A node
whose clients hold some number of attachments, each on a channel chosen by popularity, needs those partitions in which
one of these channels lies.
"""

import math
from collections.abc import Sequence

__all__ = ["channels_touched", "partitions_touched", "zipf"]


def zipf(channels: int, exponent: float) -> list[float]:
    """The popularity of each channel, the sum being 1: the n-th is chosen in proportion to n**-exponent.

    With exponent 0 all are alike.
    """
    weights = [math.pow(n, -exponent) for n in range(1, channels + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def channels_touched(popularity: Sequence[float], attachments: float) -> float:
    """How many different channels so many attachments are expected to be on."""
    return sum(1 - math.pow(1 - share, attachments) for share in popularity)


def partitions_touched(channels: float, partitions: int) -> float:
    """The expected share of `partitions` in which at least one of so many different channels lies."""
    return 1 - math.pow(1 - 1 / partitions, channels)
