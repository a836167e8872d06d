"""Modbus/TCP: protocol, client, and the register blocks of the server."""
