"""asyncua's sessions with access control and limits.

asyncua 2.1 dispatches by connection, lets any session use any subscription and write arrays
into scalars, and limits nothing; here each session has its own subscriptions, its own writes,
and a limit on every request.

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
from edgeinspect.plclinks._opcua.inputs import OpcUaInputs
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
        self.activity = PeerActivity()
        """Its messages, which bound the age of its writes."""
        # asyncua numbers its tokens, so that a client could guess another's.
        self.iserver.unregister_external_session(self)
        self.auth_token = ua.NodeId(secrets.token_bytes(32), 0)
        self.iserver.register_external_session(self)

    def touch(self) -> None:
        super().touch()
        self.iserver.inputs.record_activity(self.activity)

    @property
    def is_established(self) -> bool:
        return bool(self.is_activated())

    @property
    def last_received_ns(self) -> int:
        return int(self._last_activity * 1e9)

    def activate(self, user: SessionUser) -> ua.ActivateSessionResult:
        """Activate the session for an authenticated user."""
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
        return await service.write_as(params, self.user, self.activity)

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

    def _find_own(self, identifier: Any) -> Any:
        """Return a subscription of this session; another one does not exist for it."""
        found = self.subscription_service.subscriptions.get(int(identifier))
        if found is None or found.session_id != self.session_id:
            raise service_error(ua.StatusCodes.BadSubscriptionIdInvalid)
        return found

    def _list_own(self) -> list[Any]:
        every = self.subscription_service.subscriptions.values()
        return [each for each in every if each.session_id == self.session_id]

    async def create_subscription(
        self, params: Any, callback: Callable[..., Any], request_callback: Any = None
    ) -> ua.CreateSubscriptionResult:
        if len(self._list_own()) >= SUBSCRIPTIONS_PER_SESSION:
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
        self._find_own(params.SubscriptionId)
        return super().modify_subscription(params)

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        if ids:  # asyncua itself passes none when a session ends
            check_count(ids, NODES_PER_REQUEST)
        mine = {each.data.SubscriptionId for each in self._list_own()}
        return await super().delete_subscriptions([each if each in mine else 0 for each in ids])

    async def set_publishing_mode(self, params: Any) -> list[ua.StatusCode]:
        check_count(params.SubscriptionIds, NODES_PER_REQUEST)
        mine = {each.data.SubscriptionId for each in self._list_own()}
        params.SubscriptionIds = [each if each in mine else 0 for each in params.SubscriptionIds]
        return await super().set_publishing_mode(params)

    async def create_monitored_items(self, params: Any) -> list[ua.MonitoredItemCreateResult]:
        self._find_own(params.SubscriptionId)
        check_count(params.ItemsToCreate, ITEMS_PER_SESSION)
        services = [each.monitored_item_srv for each in self._list_own()]
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
        self._find_own(params.SubscriptionId)
        check_count(params.ItemsToModify, ITEMS_PER_SESSION)
        for each in params.ItemsToModify:
            wanted = each.RequestedParameters
            wanted.QueueSize = min(int(wanted.QueueSize) or 1, EVENT_QUEUE_MAX)
            wanted.Filter = None  # keeps the filter it was created with
        return await super().modify_monitored_items(params)

    async def delete_monitored_items(self, params: Any) -> list[ua.StatusCode]:
        self._find_own(params.SubscriptionId)
        return await super().delete_monitored_items(params)

    async def set_monitoring_mode(self, params: Any) -> list[ua.StatusCode]:
        self._find_own(params.SubscriptionId)
        check_count(params.MonitoredItemIds, ITEMS_PER_SESSION)
        return await super().set_monitoring_mode(params)

    def republish(self, params: Any) -> ua.NotificationMessage:
        held = self._find_own(params.SubscriptionId)._not_acknowledged_results
        if params.RetransmitSequenceNumber not in held:
            raise service_error(ua.StatusCodes.BadMessageNotAvailable)
        return held[params.RetransmitSequenceNumber].NotificationMessage

    def publish(self, acks: Any = None) -> tuple[int, list[ua.StatusCode]]:
        mine = {each.data.SubscriptionId: each for each in self._list_own()}
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
        """Transfer subscriptions of an earlier session of the same client."""
        check_count(params.SubscriptionIds, NODES_PER_REQUEST)
        results = []
        for identifier in params.SubscriptionIds:
            result = ua.TransferResult()
            found = self.subscription_service.subscriptions.get(int(identifier))
            if found is None:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadSubscriptionIdInvalid)
            elif not self._may_transfer(found.session_id):
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
            elif len(self._list_own()) >= SUBSCRIPTIONS_PER_SESSION:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadTooManySubscriptions)
            else:
                found.session_id = self.session_id
                found.pub_result_callback = callback
                found.pub_request_callback = callback.__self__.get_publish_request  # type: ignore[attr-defined]
                result.AvailableSequenceNumbers = sorted(found._not_acknowledged_results)
            results.append(result)
        return results

    def _may_transfer(self, session_id: Any) -> bool:
        owner = self.iserver.find_session(session_id)
        return owner is self or (
            owner is not None
            and owner.user.name == self.user.name
            and owner.peer_certificate == self.peer_certificate
            and owner.address == self.address
            and not self.iserver.is_connected(owner)
        )


class BoundedInternalServer(InternalServer):
    """asyncua's internal server with the sessions above."""

    def __init__(self, access: AccessControl, inputs: OpcUaInputs, sessions_max: int) -> None:
        super().__init__()
        self.access = access
        self.inputs = inputs
        self.sessions_max = sessions_max
        self.allow_remote_admin = False
        self.supported_tokens = tuple(access.identity_tokens)
        self.attribute_service = MapAttributeService(self.aspace, inputs)
        self.view_service = BoundedViewService(self.aspace)
        self.max_connections = 1 << 30  # the listener closes the oldest instead
        self.max_pending_activation_seconds = 0.0  # see `OpcUaListener.close_expired`
        self.max_pending_messages_per_connection = 128
        self.max_monitored_item_queue_size = EVENT_QUEUE_MAX
        self.max_unacked_messages_per_subscription = UNACKNOWLEDGED_MAX
        self.max_subscriptions = SUBSCRIPTIONS_PER_SESSION * sessions_max
        self.is_connected: Callable[[OpcUaSession], bool] = lambda _session: False
        """Whether a session has a connection; set by the listener."""

    def create_session(self, name: Any, user: Any = NO_USER, external: bool = False) -> Any:
        return OpcUaSession(
            self, self.aspace, self.subscription_service, str(name), user=user, external=external
        )

    @property
    def sessions(self) -> list[OpcUaSession]:
        """All that are open."""
        return list(self._external_sessions.values())

    def find_session(self, session_id: Any) -> OpcUaSession | None:
        """Return the open session with this id; None if there is none."""
        return next((each for each in self.sessions if each.session_id == session_id), None)


def monotonic_ns() -> int:
    """Return the time of the clock that asyncua's timers use."""
    return int(time.monotonic() * 1e9)
