"""Test doubles and scripted peers for tests and benchmarks."""

from edgeinspect.testing.doubles import (
    NoiseCamera,
    ScriptedEngine,
    brightness_gate,
    kinds_gate,
    last_pixel_unknown,
)
from edgeinspect.testing.peers import ModbusPlc, PlcResultRecord, fuzz_message, zmtp_client

__all__ = [
    # doubles
    "NoiseCamera",
    "ScriptedEngine",
    "brightness_gate",
    "kinds_gate",
    "last_pixel_unknown",
    # peers
    "ModbusPlc",
    "PlcResultRecord",
    "fuzz_message",
    "zmtp_client",
]
