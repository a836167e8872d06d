"""asyncua's attribute and view services: reads have both timestamps, writes are checked."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import UserRole
from asyncua.server.address_space import AttributeService, ViewService

from edgeinspect.plclinks._input_age import PeerActivity
from edgeinspect.plclinks._opcua.access import NO_USER, SessionUser
from edgeinspect.plclinks._opcua.inputs import OpcUaInputs
from edgeinspect.plclinks._opcua.limits import PATH_ELEMENTS_MAX, REFERENCES_MAX


class MapAttributeService(AttributeService):
    """Reads return both timestamps; clients may write valid inputs only."""

    def __init__(self, aspace: Any, inputs: OpcUaInputs) -> None:
        super().__init__(aspace)
        self.input_names: dict[Any, str] = {}
        """Node ids of the inputs; filled when the address space is built."""
        self._inputs = inputs

    def read_as(self, params: Any, user: SessionUser) -> list[ua.DataValue]:
        """Return the values as `user` may see them."""
        wanted = params.TimestampsToReturn
        source = wanted in (ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Both)
        server = wanted in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both)
        now = datetime.now(timezone.utc)
        found = []
        for each in params.NodesToRead:
            value = self._aspace.read_attribute_value(each.NodeId, each.AttributeId)
            name = self.input_names.get(each.NodeId)
            if each.AttributeId == ua.AttributeIds.UserAccessLevel and name is not None:
                level = 1 << ua.AccessLevel.CurrentRead
                if user.may_write(name):
                    level |= 1 << ua.AccessLevel.CurrentWrite
                value = ua.DataValue(ua.Variant(level, ua.VariantType.Byte))
            is_value = each.AttributeId == ua.AttributeIds.Value
            found.append(
                dataclasses.replace(
                    value,
                    SourceTimestamp=value.SourceTimestamp if source and is_value else None,
                    ServerTimestamp=now if server else None,
                )
            )
        return found

    async def write(self, params: Any, user: Any = NO_USER) -> list[ua.StatusCode]:
        if user.role is UserRole.Admin:  # the server itself: no client has this role
            return await super().write(params, user)
        return await self.write_as(params, user, PeerActivity())

    async def write_as(
        self, params: Any, user: SessionUser, peer: PeerActivity
    ) -> list[ua.StatusCode]:
        """Process one Write call of a session, which is one write of the PLC."""
        codes, values, rejected_names = [], {}, []
        for each in params.NodesToWrite:
            codes.append(await self._write_input(each, user))
            name = self.input_names.get(each.NodeId)
            if name is not None and ua.StatusCode(codes[-1]).is_good():
                values[name] = each.Value.Value.Value
            elif name is not None:
                rejected_names.append(name)
        self._inputs.write(peer, values, rejected_names)
        return [ua.StatusCode(code) for code in codes]

    async def _write_input(self, each: Any, user: SessionUser) -> int:
        node = self._aspace.get(each.NodeId)
        if node is None:
            return int(ua.StatusCodes.BadNodeIdUnknown)
        if each.AttributeId not in node.attributes:
            return int(ua.StatusCodes.BadAttributeIdInvalid)
        name = self.input_names.get(each.NodeId)
        if name is None or each.AttributeId != ua.AttributeIds.Value:
            return int(ua.StatusCodes.BadNotWritable)
        if not user.may_write(name):
            return int(ua.StatusCodes.BadUserAccessDenied)
        problem = self._inputs.check_write(name, each)
        if problem is not None:
            return problem
        now = datetime.now(timezone.utc)
        value = ua.DataValue(
            ua.Variant(each.Value.Value.Value, each.Value.Value.VariantType),
            SourceTimestamp=now,
            ServerTimestamp=now,
        )
        status = await self._aspace.write_attribute_value(each.NodeId, each.AttributeId, value)
        return int(status.value)


class BoundedViewService(ViewService):
    """Limits the number of nodes on a browse path."""

    def _navigate(self, start_nodeid: Any, elements: Any) -> list[Any]:
        current = [start_nodeid]
        if len(elements) > PATH_ELEMENTS_MAX:
            return []
        for element in elements:
            found = dict.fromkeys(
                each for node in current for each in self._find_elements_in_node(element, node)
            )
            current = list(found)
            if not current or len(current) > REFERENCES_MAX:
                return []
        return current
