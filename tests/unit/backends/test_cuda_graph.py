"""CUDA graphs through libcuda: the calls, their order, and the state after a failure."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeinspect.backends._tensorrt import cuda
from edgeinspect.backends._tensorrt.cuda import CudaGraph
from edgeinspect.errors import EngineFault
from tests import nvidia

FUNCTIONS = tuple(cuda._GRAPH_FUNCTIONS)
SOURCE = """
#include <string.h>
char calls[1000];
int fails_at;
static int call(const char *name, int number) {
    strcat(calls, name); strcat(calls, " ");
    return fails_at == number ? 901 : 0;
}
typedef void *H;
int cuStreamBeginCapture_v2(H s, int mode)
{ return s == (H)4242 && mode == 1 ? call("begin", 1) : 1; }
int cuStreamEndCapture(H s, H *g) { *g = (H)7; return call("end", 2); }
int cuGraphInstantiateWithFlags(H *e, H g, unsigned long long f)
{ *e = (H)8; return g == (H)7 && !f ? call("instantiate", 3) : 1; }
int cuGraphLaunch(H e, H s) { return e == (H)8 && s == (H)4242 ? call("launch", 4) : 1; }
int cuGraphExecDestroy(H e) { return e == (H)8 ? call("free-ready", 0) : 1; }
int cuGraphDestroy(H g) { return g == (H)7 ? call("free-graph", 0) : 1; }
"""
STREAM = SimpleNamespace(handle=4242)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    return nvidia.compile_library(SOURCE, folder / "libcuda.so.1", "libcuda.so.1")


@pytest.fixture
def libcuda(built: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    library = ctypes.CDLL(str(built))
    (ctypes.c_char * 1000).in_dll(library, "calls").value = b""
    ctypes.c_int.in_dll(library, "fails_at").value = 0
    original = ctypes.CDLL
    monkeypatch.setattr(
        cuda.ctypes, "CDLL", lambda name: library if name == "libcuda.so.1" else original(name)
    )
    return library


def calls(library: Any) -> str:
    return bytes((ctypes.c_char * 1000).in_dll(library, "calls").value).decode().strip()


def test_calls_of_record_launch_and_close(libcuda: Any) -> None:
    recorded: list[str] = []
    graph = CudaGraph(STREAM, lambda: recorded.append(calls(libcuda)))
    assert recorded == ["begin"]
    graph.launch()
    graph.launch()
    graph.close()
    graph.close()
    assert calls(libcuda) == "begin end instantiate launch launch free-ready free-graph"


def fail() -> None:
    raise EngineFault("TensorRT refused to run")


@pytest.mark.parametrize(
    ("at", "record", "expected"),
    [
        (1, lambda: None, "begin"),
        (0, fail, "begin end"),
        (2, lambda: None, "begin end"),
        (3, lambda: None, "begin end instantiate free-ready free-graph"),
    ],
    ids=["begin", "record", "end", "instantiate"],
)
def test_a_failure_ends_the_recording_of_the_stream(
    libcuda: Any, at: int, record: Callable[[], None], expected: str
) -> None:
    ctypes.c_int.in_dll(libcuda, "fails_at").value = at
    with pytest.raises(EngineFault, match="901" if at else "refused"):
        CudaGraph(STREAM, record)
    assert calls(libcuda) == expected


def test_a_failed_launch_is_a_fault(libcuda: Any) -> None:
    graph = CudaGraph(STREAM, lambda: None)
    ctypes.c_int.in_dll(libcuda, "fails_at").value = 4
    with pytest.raises(EngineFault, match="cuGraphLaunch returned error 901"):
        graph.launch()


def test_missing_libcuda_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", missing)
    with pytest.raises(EngineFault, match="libcuda has no graph functions"):
        CudaGraph(STREAM, lambda: None)
