"""libmodbus (the C library that mbpoll uses) through ctypes: an independent Modbus client."""

from __future__ import annotations

import ctypes
import ctypes.util
import struct


def load_library() -> ctypes.CDLL | None:
    """Return the library; None if it is not installed."""
    name = ctypes.util.find_library("modbus")
    return None if name is None else ctypes.CDLL(name, use_errno=True)


class LibmodbusClient:
    """A connection. Raises OSError if the peer is away."""

    def __init__(self, port: int) -> None:
        found = load_library()
        assert found is not None
        self._lib = found
        self._lib.modbus_new_tcp.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.modbus_new_tcp(b"127.0.0.1", port))
        self._lib.modbus_set_slave(self._context, 1)
        self._check(self._lib.modbus_connect(self._context))

    def _check(self, result: int) -> None:
        if result < 0:
            raise OSError(ctypes.get_errno(), "libmodbus")

    def input_registers(self, address: int, count: int) -> bytes:
        words = (ctypes.c_uint16 * count)()
        self._check(self._lib.modbus_read_input_registers(self._context, address, count, words))
        return struct.pack(f">{count}H", *words)

    def holding_registers(self, address: int, count: int) -> bytes:
        words = (ctypes.c_uint16 * count)()
        self._check(self._lib.modbus_read_registers(self._context, address, count, words))
        return struct.pack(f">{count}H", *words)

    def discrete_inputs(self, address: int, count: int) -> list[bool]:
        bits = (ctypes.c_uint8 * count)()
        self._check(self._lib.modbus_read_input_bits(self._context, address, count, bits))
        return [bool(bit) for bit in bits]

    def coils(self, address: int, count: int) -> list[bool]:
        bits = (ctypes.c_uint8 * count)()
        self._check(self._lib.modbus_read_bits(self._context, address, count, bits))
        return [bool(bit) for bit in bits]

    def write_coil(self, address: int, value: bool) -> None:
        self._check(self._lib.modbus_write_bit(self._context, address, int(value)))

    def write_registers(self, address: int, block: bytes) -> None:
        count = len(block) // 2
        words = (ctypes.c_uint16 * count)(*struct.unpack(f">{count}H", block))
        self._check(self._lib.modbus_write_registers(self._context, address, count, words))

    def close(self) -> None:
        self._lib.modbus_close(self._context)
        self._lib.modbus_free(self._context)
