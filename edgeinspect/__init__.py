"""edgeinspect: inspects the frames of line cameras; every frame gets its verdict in time."""

import os as _os
import sys as _sys

__version__ = "0.1.0"

# A line PC sends nothing to a library's maker: OpenVINO's converter, which `import openvino` loads,
# and ONNX Runtime report their use otherwise, and keep an id in the home folder. OpenVINO has a
# stub for an absent telemetry package; who wants the reports imports it before this one.
_sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
