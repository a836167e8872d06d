"""Limits on the requests of one client, and on the cost of event filters.

Source: OPC UA Part 4; asyncua limits neither
"""

from __future__ import annotations

import math
from typing import Any

from asyncua import ua

NODES_PER_READ = 1_000
NODES_PER_REQUEST = 100
"""Limit for any other service."""
REFERENCES_MAX = 10_000
"""In one response to Browse, and on one path of TranslateBrowsePaths."""
PATH_ELEMENTS_MAX = 32
SUBSCRIPTIONS_PER_SESSION = 8
ITEMS_PER_SESSION = 500
EVENT_ITEMS_PER_SESSION = 4
EVENT_QUEUE_MAX = 1_000
UNACKNOWLEDGED_MAX = 16
"""Notification messages kept for a republish."""
SELECT_CLAUSES_MAX = 64
WHERE_COST_MAX = 1_000
"""Operations that a where clause may take for one event."""
PUBLISHING_MIN_MS, PUBLISHING_MAX_MS = 10.0, 60_000.0
KEEP_ALIVE_MAX_MS, LIFETIME_MAX_MS = 30_000.0, 120_000.0


def service_error(code: int) -> ua.UaStatusCodeError:
    """Return the error of a service call."""
    return ua.UaStatusCodeError(code)


def check_count(items: Any, limit: int) -> None:
    """Reject a request without items, or with more than `limit`."""
    if items is None or len(items) == 0:
        raise service_error(ua.StatusCodes.BadNothingToDo)
    if len(items) > limit:
        raise service_error(ua.StatusCodes.BadTooManyOperations)


def is_event_item(item: Any) -> bool:
    """Whether a monitored item is for events."""
    return bool(item.ItemToMonitor.AttributeId == ua.AttributeIds.EventNotifier)


def check_monitored_item(item: Any) -> None:
    """Reject a filter that would raise, or not terminate, at each change."""
    wanted = item.RequestedParameters
    if isinstance(wanted.Filter, ua.ExtensionObject):  # an empty one
        wanted.Filter = None
    if not is_event_item(item):
        wanted.QueueSize = min(int(wanted.QueueSize) or 1, NODES_PER_REQUEST)
        if wanted.Filter is not None and not isinstance(wanted.Filter, ua.DataChangeFilter):
            raise service_error(ua.StatusCodes.BadFilterNotAllowed)
        return
    if not isinstance(wanted.Filter, ua.EventFilter):
        raise service_error(ua.StatusCodes.BadEventFilterInvalid)
    if len(wanted.Filter.SelectClauses or []) > SELECT_CLAUSES_MAX:
        raise service_error(ua.StatusCodes.BadEventFilterInvalid)
    if where_cost(wanted.Filter.WhereClause.Elements or []) > WHERE_COST_MAX:
        raise service_error(ua.StatusCodes.BadContentFilterInvalid)


def where_cost(elements: Any) -> float:
    """Return the operations that a where clause takes; infinite if an operand refers back.

    Source: OPC UA Part 4, 7.7.4.2: an ElementOperand refers to a later element.
    """
    costs: dict[int, float] = {}
    for index in reversed(range(len(elements))):
        cost = 1.0
        for operand in elements[index].FilterOperands or []:
            if isinstance(operand, ua.ElementOperand):
                cost += costs.get(int(operand.Index), math.inf)
            else:
                cost += 1
        costs[index] = cost
    return costs.get(0, 0.0)
