"""Publishing: verdicts to subscribers, replay and commands over the ROUTER."""

from edgeinspect.pipeline.publishing.line_sockets import LineSockets
from edgeinspect.pipeline.publishing.publisher import Publisher, PublisherSettings
from edgeinspect.pipeline.publishing.replay_server import ReplayServer, RequestHandlers

__all__ = [
    # line sockets
    "LineSockets",
    # publisher
    "Publisher",
    "PublisherSettings",
    # replay server
    "ReplayServer",
    "RequestHandlers",
]
