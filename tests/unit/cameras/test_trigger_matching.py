"""Each trigger ends once, and no frame gets a wrong part, whatever is lost or is_ignored."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.cameras._genicam.trigger_matching import LostFrame, TriggerMatcher
from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import NO_PART, Part

TIMEOUT_MS = 200


@dataclass(frozen=True)
class Shot:
    """The fate of one trigger."""

    gap_ms: int
    """Since the previous trigger."""
    is_ignored: bool
    arrives: bool
    delay_ms: int
    """From exposure to arrival."""


shots = st.lists(
    st.builds(
        Shot,
        gap_ms=st.integers(1, 300),
        is_ignored=st.sampled_from((False,) * 5 + (True,)),
        arrives=st.sampled_from((True,) * 4 + (False,)),
        delay_ms=st.integers(0, 400),
    ),
    max_size=40,
)


def play(script: list[Shot], first_id: int, is_camera_stamp: bool) -> dict[str, list[str]]:
    """Simulate a camera that exposes 0.2 ms after a trigger; return the end of each part."""
    matcher = TriggerMatcher(TIMEOUT_MS * NS_PER_MS)
    ends: dict[str, list[str]] = {str(index): [] for index in range(len(script))}

    def add_loss(lost: LostFrame) -> None:
        if lost.part is not NO_PART:
            ends[lost.part.part_id or ""].append("lost")

    events: list[tuple[int, int, str]] = []
    at_ns, frame_id = 0, first_id
    arrived_ns = 0
    frames: dict[int, tuple[int, int, str]] = {}
    for index, shot in enumerate(script):
        at_ns += shot.gap_ms * NS_PER_MS
        events.append((at_ns, 2 * index, f"trigger {index}"))
        if shot.is_ignored:
            continue
        exposed_ns = at_ns + NS_PER_MS // 5
        if shot.arrives:
            # Frames arrive in order.
            arrived_ns = max(arrived_ns, exposed_ns + shot.delay_ms * NS_PER_MS)
            events.append((arrived_ns, 2 * index + 1, f"frame {index}"))
            frames[index] = (frame_id, exposed_ns if is_camera_stamp else arrived_ns, str(index))
        frame_id += 1
    for now_ns, _, event in sorted(events):
        while (late := matcher.pop_overdue(now_ns)) is not None:
            add_loss(late)
        kind, _, number = event.partition(" ")
        if kind == "trigger":
            matcher.add(Part(number), now_ns)
            continue
        sent_id, stamp_ns, truth = frames[int(number)]
        match = matcher.match(sent_id, stamp_ns, is_camera_stamp)
        for lost in match.lost:
            add_loss(lost)
        if match.part is not None and match.part is not NO_PART:
            assert match.part.part_id == truth, "a frame with a wrong part"
            ends[truth].append("frame")
    for lost in matcher.cancel_all():
        add_loss(lost)
    return ends


@settings(max_examples=100, deadline=None)
@given(shots, st.integers(0, 65_000))
def test_each_trigger_ends_once_with_the_right_part(script: list[Shot], first_id: int) -> None:
    ends = play(script, first_id, is_camera_stamp=True)
    assert all(len(end) == 1 for end in ends.values()), ends


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(Shot, st.integers(1, 300), st.just(False), st.booleans(), st.integers(0, 400)),
        max_size=40,
    )
)
def test_matching_without_camera_stamps(script: list[Shot]) -> None:
    ends = play(script, 1, is_camera_stamp=False)
    assert all(len(end) == 1 for end in ends.values()), ends


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_without_losses_every_part_has_a_frame(delays_ms: list[int]) -> None:
    script = [Shot(60, False, True, delay_ms) for delay_ms in delays_ms]
    assert play(script, 7, is_camera_stamp=True) == {str(i): ["frame"] for i in range(len(script))}


def test_an_untriggered_frame_has_no_part() -> None:
    matcher = TriggerMatcher(TIMEOUT_MS * NS_PER_MS)
    assert matcher.match(10, 0, True).part == NO_PART
    assert [lost.frame_id for lost in matcher.match(13, 0, True).lost] == [11, 12]


def test_an_ignored_trigger_loses_only_the_next_part() -> None:
    """The next frame is ambiguous; later ones are not."""
    script = (
        [Shot(20, False, True, 5)] * 5 + [Shot(20, True, True, 5)] + [Shot(20, False, True, 5)] * 5
    )
    ends = [end for (end,) in play(script, 1, is_camera_stamp=True).values()]
    assert ends == ["frame"] * 5 + ["lost"] * 2 + ["frame"] * 4
