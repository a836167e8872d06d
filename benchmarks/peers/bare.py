"""No peer at all: the engine in a loop per worker, with the same regions and message."""

from __future__ import annotations

import threading

import openvino
from job import Job
from openvino_model import Model


def main() -> None:
    job = Job()
    models = [Model(job.args.model, job.args.threads) for _ in range(job.args.workers)]
    frames = job.source()
    lock = threading.Lock()

    def work(model: Model) -> None:
        while True:
            with lock:
                got = next(frames, None)
            if got is None:
                return
            job.done(got[0], *model(got[1]))

    for model in models:
        job.warm_up(model)
    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job.finish(openvino=openvino.__version__)


main()
