"""What a training does unless it is told otherwise, and how long that takes.

The command line shows these in its help, without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingDefaults:
    """The defaults of one kind of model."""

    architecture: str
    steps: int
    seconds_per_step: float
    """Of processor time, with the default recipe and frames of `MEASURED_FRAME`, validations
    included; measured on one core of an AMD EPYC. Torch divides it among the threads."""

    def describe(self) -> str:
        """Return the default steps and their time, in words for a help text."""
        minutes = max(1, round(self.steps * self.seconds_per_step / 60))
        return (
            f"{self.steps} by default, which take about {minutes} minutes of processor time for "
            f"images of {MEASURED_FRAME} (x86-64), shared by the threads; more for more pixels."
        )


MEASURED_FRAME = "200x200"
GATE = TrainingDefaults("small", 1500, seconds_per_step=0.11)
SEGMENTER = TrainingDefaults("resunet-0.8m", 3000, seconds_per_step=0.55)
