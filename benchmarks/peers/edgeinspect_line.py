"""edgeinspect: the whole line with its spool, ring, guard, publisher and wire."""

from __future__ import annotations

import json

import numpy as np
import structlog
from job import AREA_MIN, Job

from edgeinspect import __version__
from edgeinspect.config import parse_config
from edgeinspect.domain import ModelSpec
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.tools.bench import FullLineRun
from edgeinspect.tools.memory_folder import temporary_memory_folder

MODEL = "strip-segmenter"
_LINE = """\
schema: 1
line: peer
budget_ms: 5000
cameras: {{top: {{type: synthetic}}}}
engines: {{segmenter: {{type: ov, model: {model}, threads: {threads}}}}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide: {{classes: {classes}}}
capture: {{overload: block}}
inspect: {{workers: {workers}, keep_warm_ms: 0}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}}
spool: {{folder: {folder}, slots: 16384}}
"""


def _classes(spec: ModelSpec) -> str:
    rule = {
        "score": 0.0,
        "area_px": AREA_MIN * spec.output_stride**2,
        "severity": 1,
        "reject_code": 1,
    }
    return json.dumps(dict.fromkeys(spec.classes, rule))


def main() -> None:
    job = Job()
    args = job.args
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with temporary_memory_folder("bench") as folder:
        text = _LINE.format(
            model=MODEL,
            threads=args.threads,
            workers=args.workers,
            folder=folder,
            classes=_classes(ModelStore(default_root()).resolve(MODEL)),
        )
        line = FullLineRun(
            parse_config(text, "peer"), [np.ascontiguousarray(each) for each in job.frames]
        )
        try:
            line.run(0, 10)
            samples, use = line.run(0, args.count, args.rate)
        finally:
            line.close()
    document = {
        "about": {"edgeinspect": __version__},
        "count": args.count,
        "answered": int((samples.kind < 2).sum()),
        "wall_ns": use.wall_ns,
        "latency_ns": (samples.latency_us * 1000).tolist(),
        "engine_ns": (samples.engine_us * 1000).tolist(),
    }
    with open(args.out, "w", encoding="utf-8") as file:
        json.dump(document, file)


main()
