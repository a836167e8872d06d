"""What a training does unless it is told otherwise, and how long that takes.

The command line shows these in its help, without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingDefaults:
    """The defaults of one kind of model."""

    architecture: str
    work_mpx: float
    """Pixels of all steps on a pretrained encoder, in millions."""
    seconds_per_mpx: float
    """Of processor time with that architecture; read from a running training on two cores of an
    AMD EPYC beside other work. torch divides it among the threads."""
    steps_from_scratch: int
    """Steps of a network without an encoder."""

    def describe(self) -> str:
        """Return the default steps and their time, in words for a help text."""
        minutes = max(1, round(self.work_mpx * self.seconds_per_mpx / 60))
        return (
            f"by default as many as take about {minutes} minutes of processor time (x86-64), "
            f"shared by the threads; half as many again for more than {MANY_IMAGES} images, and "
            "fewer for few."
        )


MANY_IMAGES = 3000
MANY_IMAGES_FACTOR = 1.5
"""More training images than `MANY_IMAGES` get so many times the steps."""
GATE = TrainingDefaults("lite0", 400, seconds_per_mpx=2.3, steps_from_scratch=1500)
SEGMENTER = TrainingDefaults("lite0", 700, seconds_per_mpx=2.8, steps_from_scratch=3000)


def of(kind: str) -> TrainingDefaults:
    """Return the defaults of a kind of model."""
    return GATE if kind == "gate" else SEGMENTER
