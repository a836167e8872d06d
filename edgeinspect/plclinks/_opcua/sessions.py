"""asyncua's sessions, held to rights and bounds.

asyncua 2.1 dispatches by connection and lets any session name any subscription, write arrays
into scalars, and ask for as much as it likes; here each session has its own subscriptions, its
own writes, and a share of everything.

Source: OPC UA Part 4; asyncua/server/internal_session.py
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from typing import Any

from asyncua import ua
from asyncua.common.utils import create_nonce
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession, SessionState

from edgeinspect.plclinks._input_age import PeerActivity
from edgeinspect.plclinks._opcua.access import NO_USER, AccessControl, SessionUser
from edgeinspect.plclinks._opcua.attributes import BoundedViewService, MapAttributeService
from edgeinspect.plclinks._opcua.inputs import Inputs
from edgeinspect.plclinks._opcua.limits import (
    EVENT_ITEMS_PER_SESSION,
    EVENT_QUEUE_MAX,
    ITEMS_PER_SESSION,
    KEEP_ALIVE_MAX_MS,
    LIFETIME_MAX_MS,
    NODES_PER_READ,
    NODES_PER_REQUEST,
    PUBLISHING_MAX_MS,
    PUBLISHING_MIN_MS,
    REFERENCES_MAX,
    SUBSCRIPTIONS_PER_SESSION,
    UNACKNOWLEDGED_MAX,
    check_count,
    check_monitored_item,
    is_event_item,
    service_error,
)


class OpcUaSession(InternalSession):
    """One client's session. For the server's event loop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.user: SessionUser = NO_USER
        self.state: SessionState
        self.address = ""
        self.peer_certificate: bytes | None = None
        self.policy_uri = ""
        self.contact = PeerActivity()
        """How old what it writes can be."""
        # asyncua counts its tokens up, so anybody could name somebody else's.
        self.iserver.unregister_external_session(self)
        self.auth_token = ua.NodeId(secrets.token_bytes(32), 0)
        self.iserver.register_external_session(self)

    def touch(self) -> None:
        super().touch()
        self.iserver.inputs.hear(self.contact)

    @property
    def proven(self) -> bool:
        return bool(self.is_activated())

    @property
    def heard_at_ns(self) -> int:
        return int(self._last_activity * 1e9)

    def activate(self, user: SessionUser) -> ua.ActivateSessionResult:
        """Give the session to a user who has proved who he is."""
        first = self.state is SessionState.Created
        self.user = user
        self.nonce = create_nonce(32)
        self.state = SessionState.Activated
        if first:
            InternalSession._current_connections += 1
        self.touch()
        self._start_timeout_watchdog()
        result = ua.ActivateSessionResult()
        result.ServerNonce = self.nonce
        return result

    # -- attributes -----------------------------------------------------------------

    async def read(self, params: Any) -> list[ua.DataValue]:
        check_count(params.NodesToRead, NODES_PER_READ)
        service: MapAttributeService = self.iserver.attribute_service
        return service.read_as(params, self.user)

    async def write(self, params: Any) -> list[ua.StatusCode]:
        check_count(params.NodesToWrite, NODES_PER_REQUEST)
        service: MapAttributeService = self.iserver.attribute_service
        return await service.write_as(params, self.user, self.contact)

    async def browse(self, params: Any) -> list[ua.BrowseResult]:
        check_count(params.NodesToBrowse, NODES_PER_REQUEST)
        results, references = [], 0
        for each in params.NodesToBrowse:
            results.append(self.iserver.view_service._browse(each))
            references += len(results[-1].References)
            if references > REFERENCES_MAX:
                raise service_error(ua.StatusCodes.BadResponseTooLarge)
        return results

    async def translate_browsepaths_to_nodeids(self, params: Any) -> list[ua.BrowsePathResult]:
        check_count(params, NODES_PER_REQUEST)
        check_count([each for path in params for each in path.RelativePath.Elements], 1_000)
        return await super().translate_browsepaths_to_nodeids(params)

    async def call(self, params: Any) -> list[ua.CallMethodResult]:
        check_count(params, NODES_PER_REQUEST)
        status = ua.StatusCode(ua.StatusCodes.BadMethodInvalid)
        return [ua.CallMethodResult(StatusCode=status) for _ in params]

    async def history_read(self, params: Any) -> list[ua.HistoryReadResult]:
        check_count(params.NodesToRead, NODES_PER_REQUEST)
        status = ua.StatusCode(ua.StatusCodes.BadHistoryOperationUnsupported)
        return [ua.HistoryReadResult(StatusCode=status) for _ in params.NodesToRead]

    # -- subscriptions --------------------------------------------------------------

    def _own(self, identifier: Any) -> Any:
        """A subscription of this session; others are as if they were not there."""
        found = self.subscription_service.subscriptions.get(int(identifier))
        if found is None or found.session_id != self.session_id:
            raise service_error(ua.StatusCodes.BadSubscriptionIdInvalid)
        return found

    def _owned(self) -> list[Any]:
        every = self.subscription_service.subscriptions.values()
        return [each for each in every if each.session_id == self.session_id]

    async def create_subscription(
        self, params: Any, callback: Callable[..., Any], request_callback: Any = None
    ) -> ua.CreateSubscriptionResult:
        if len(self._owned()) >= SUBSCRIPTIONS_PER_SESSION:
            raise service_error(ua.StatusCodes.BadTooManySubscriptions)
        wanted_ms = float(params.RequestedPublishingInterval)
        if math.isnan(wanted_ms):
            wanted_ms = 0.0
        every_ms = min(max(wanted_ms, PUBLISHING_MIN_MS), PUBLISHING_MAX_MS)
        params.RequestedPublishingInterval = every_ms
        keep_alive = max(
            1, min(int(params.RequestedMaxKeepAliveCount) or 10, int(KEEP_ALIVE_MAX_MS / every_ms))
        )
        params.RequestedMaxKeepAliveCount = keep_alive
        lifetime = min(int(params.RequestedLifetimeCount), int(LIFETIME_MAX_MS / every_ms))
        params.RequestedLifetimeCount = max(lifetime, 3 * keep_alive)
        return await super().create_subscription(params, callback, request_callback)

    def modify_subscription(self, params: Any) -> ua.ModifySubscriptionResult:
        self._own(params.SubscriptionId)
        return super().modify_subscription(params)

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        if ids:  # asyncua itself asks with none when a session ends
            check_count(ids, NODES_PER_REQUEST)
        mine = {each.data.SubscriptionId for each in self._owned()}
        return await super().delete_subscriptions([each if each in mine else 0 for each in ids])

    async def set_publishing_mode(self, params: Any) -> list[ua.StatusCode]:
        check_count(params.SubscriptionIds, NODES_PER_REQUEST)
        mine = {each.data.SubscriptionId for each in self._owned()}
        params.SubscriptionIds = [each if each in mine else 0 for each in params.SubscriptionIds]
        return await super().set_publishing_mode(params)

    async def create_monitored_items(self, params: Any) -> list[ua.MonitoredItemCreateResult]:
        self._own(params.SubscriptionId)
        check_count(params.ItemsToCreate, ITEMS_PER_SESSION)
        services = [each.monitored_item_srv for each in self._owned()]
        items = sum(len(each._monitored_items) for each in services)
        events = sum(len(each) for one in services for each in one._monitored_events.values())
        events += sum(is_event_item(each) for each in params.ItemsToCreate)
        if items + len(params.ItemsToCreate) > ITEMS_PER_SESSION or (
            events > EVENT_ITEMS_PER_SESSION
        ):
            raise service_error(ua.StatusCodes.BadTooManyMonitoredItems)
        for each in params.ItemsToCreate:
            check_monitored_item(each)
        return await super().create_monitored_items(params)

    async def modify_monitored_items(self, params: Any) -> list[ua.MonitoredItemModifyResult]:
        self._own(params.SubscriptionId)
        check_count(params.ItemsToModify, ITEMS_PER_SESSION)
        for each in params.ItemsToModify:
            wanted = each.RequestedParameters
            wanted.QueueSize = min(int(wanted.QueueSize) or 1, EVENT_QUEUE_MAX)
            wanted.Filter = None  # it stays as it was created
        return await super().modify_monitored_items(params)

    async def delete_monitored_items(self, params: Any) -> list[ua.StatusCode]:
        self._own(params.SubscriptionId)
        return await super().delete_monitored_items(params)

    async def set_monitoring_mode(self, params: Any) -> list[ua.StatusCode]:
        self._own(params.SubscriptionId)
        check_count(params.MonitoredItemIds, ITEMS_PER_SESSION)
        return await super().set_monitoring_mode(params)

    def republish(self, params: Any) -> ua.NotificationMessage:
        held = self._own(params.SubscriptionId)._not_acknowledged_results
        if params.RetransmitSequenceNumber not in held:
            raise service_error(ua.StatusCodes.BadMessageNotAvailable)
        return held[params.RetransmitSequenceNumber].NotificationMessage

    def publish(self, acks: Any = None) -> tuple[int, list[ua.StatusCode]]:
        mine = {each.data.SubscriptionId: each for each in self._owned()}
        if not mine:
            raise service_error(ua.StatusCodes.BadNoSubscription)
        results = []
        for ack in acks or []:
            found = mine.get(ack.SubscriptionId)
            code = ua.StatusCodes.Good if found else ua.StatusCodes.BadSubscriptionIdInvalid
            if found:
                found.publish([ack.SequenceNumber])
            results.append(ua.StatusCode(code))
        return len(mine), results

    async def transfer_subscriptions(
        self, params: Any, callback: Callable[..., Any]
    ) -> list[ua.TransferResult]:
        """Take over what a session of the same client left behind."""
        check_count(params.SubscriptionIds, NODES_PER_REQUEST)
        results = []
        for identifier in params.SubscriptionIds:
            result = ua.TransferResult()
            found = self.subscription_service.subscriptions.get(int(identifier))
            if found is None:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadSubscriptionIdInvalid)
            elif not self._may_take(found.session_id):
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
            elif len(self._owned()) >= SUBSCRIPTIONS_PER_SESSION:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadTooManySubscriptions)
            else:
                found.session_id = self.session_id
                found.pub_result_callback = callback
                found.pub_request_callback = callback.__self__.get_publish_request  # type: ignore[attr-defined]
                result.AvailableSequenceNumbers = sorted(found._not_acknowledged_results)
            results.append(result)
        return results

    def _may_take(self, session_id: Any) -> bool:
        owner = self.iserver.session_of(session_id)
        return owner is self or (
            owner is not None
            and owner.user.name == self.user.name
            and owner.peer_certificate == self.peer_certificate
            and owner.address == self.address
            and not self.iserver.is_attached(owner)
        )


class BoundedInternalServer(InternalServer):
    """asyncua's inner server with the sessions above."""

    def __init__(self, access: AccessControl, inputs: Inputs, sessions_max: int) -> None:
        super().__init__()
        self.access = access
        self.inputs = inputs
        self.sessions_max = sessions_max
        self.allow_remote_admin = False
        self.supported_tokens = tuple(access.identity_tokens)
        self.attribute_service = MapAttributeService(self.aspace, inputs)
        self.view_service = BoundedViewService(self.aspace)
        self.max_connections = 1 << 30  # `channel.Listener` makes room instead of refusing
        self.max_pending_activation_seconds = 0.0  # as `Listener.sweep` does
        self.max_pending_messages_per_connection = 128
        self.max_monitored_item_queue_size = EVENT_QUEUE_MAX
        self.max_unacked_messages_per_subscription = UNACKNOWLEDGED_MAX
        self.max_subscriptions = SUBSCRIPTIONS_PER_SESSION * sessions_max
        self.is_attached: Callable[[OpcUaSession], bool] = lambda _session: False
        """Whether a session has a connection; the listener knows."""

    def create_session(self, name: Any, user: Any = NO_USER, external: bool = False) -> Any:
        return OpcUaSession(
            self, self.aspace, self.subscription_service, str(name), user=user, external=external
        )

    @property
    def sessions(self) -> list[OpcUaSession]:
        """All that are open."""
        return list(self._external_sessions.values())

    def session_of(self, session_id: Any) -> OpcUaSession | None:
        """The open session of that id."""
        return next((each for each in self.sessions if each.session_id == session_id), None)


def monotonic_ns() -> int:
    """Monotonic time on the clock of asyncua's own timers."""
    return int(time.monotonic() * 1e9)
