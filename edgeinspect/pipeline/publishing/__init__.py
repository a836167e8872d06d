"""Publishing: verdicts to subscribers, replay and commands over the ROUTER."""

from edgeinspect.pipeline.publishing.part_verdicts import make_part_aggregator
from edgeinspect.pipeline.publishing.publisher import Publisher
from edgeinspect.pipeline.publishing.replay_server import ReplayServer, no_ledger

__all__ = [
    # part verdicts
    "make_part_aggregator",
    # publisher
    "Publisher",
    # replay server
    "ReplayServer",
    "no_ledger",
]
