"""GStreamer: appsrc, queue, appsink, with the model called in the sink's callback."""

from __future__ import annotations

import sys
import threading

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian keeps PyGObject
import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
import numpy as np  # noqa: E402
from gi.repository import GLib, Gst, GstApp  # noqa: E402, F401
from job import Job  # noqa: E402
from openvino_model import Model  # noqa: E402


def main() -> None:
    job = Job()
    Gst.init(None)
    model = Model(job.args.model, job.args.threads)
    job.warm_up(model)
    height, width = job.frames.shape[1:3]
    caps = f"video/x-raw,format=GRAY8,width={width},height={height},framerate=0/1"
    pipeline = Gst.parse_launch(
        f"appsrc name=source caps={caps} format=time block=true max-bytes={2 * height * width} "
        "! queue max-size-buffers=4 ! appsink name=sink emit-signals=true sync=false"
    )
    source, sink = pipeline.get_by_name("source"), pipeline.get_by_name("sink")
    ended = threading.Event()

    def judge(appsink: GstApp.AppSink) -> Gst.FlowReturn:
        buffer = appsink.emit("pull-sample").get_buffer()
        mapped, info = buffer.map(Gst.MapFlags.READ)
        if not mapped:
            return Gst.FlowReturn.ERROR
        # A copy: the memory is read-only, and OpenVINO takes none that is.
        frame = np.frombuffer(info.data, np.uint8).copy().reshape(height, width, 1)
        buffer.unmap(info)
        found = model(frame)
        job.done(buffer.offset, *found)
        if buffer.offset == job.count - 1:
            ended.set()
        return Gst.FlowReturn.OK

    sink.connect("new-sample", judge)
    pipeline.set_state(Gst.State.PLAYING)
    for number, frame in job.source():
        buffer = Gst.Buffer.new_wrapped(frame.tobytes())
        buffer.offset = number
        buffer.pts = number
        source.emit("push-buffer", buffer)
    ended.wait(60)
    pipeline.set_state(Gst.State.NULL)
    job.finish(gstreamer=".".join(map(str, Gst.version()[:3])))


main()
