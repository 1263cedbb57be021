"""Placement: nothing overlaps, the bound is a bound, and the search reaches it where greedy does not."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.targets.abi import ALIGNMENT
from graphopt.targets.plan_memory import Buffer, Plan, aligned, lower_bound, plan


def overlapping(buffers: list[Buffer], placement: Plan) -> list[tuple[str, str]]:
    """Pairs that are alive together and share bytes."""
    return [
        (a.name, b.name)
        for a, b in itertools.combinations([b for b in buffers if b.size], 2)
        if a.meets(b)
        and placement.offsets[a.name] < placement.offsets[b.name] + b.size
        and placement.offsets[b.name] < placement.offsets[a.name] + a.size
    ]


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Buffer]:
    count = draw(st.integers(0, 25))
    buffers = []
    for number in range(count):
        first = draw(st.integers(0, 20))
        last = draw(st.integers(first, 24))
        buffers.append(Buffer(f"b{number}", draw(st.integers(0, 5000)), first, last))
    return buffers


@settings(max_examples=60, deadline=None)
@given(lifetimes())
def test_placement_is_valid(buffers: list[Buffer]) -> None:
    placement = plan(buffers)
    assert overlapping(buffers, placement) == []
    assert set(placement.offsets) == {b.name for b in buffers}
    assert all(offset % ALIGNMENT == 0 for offset in placement.offsets.values())
    ends = [placement.offsets[b.name] + aligned(b.size) for b in buffers if b.size]
    assert placement.size == max(ends, default=0)
    assert placement.size >= placement.lower_bound


@st.composite
def regions(draw: st.DrawFn) -> list[Buffer]:
    """Some of the buffers side by side in regions, each with a life of its own."""
    found = []
    for buffer in draw(lifetimes()):
        region = draw(st.sampled_from(["", "", "r", "s"]))
        beside = sum(b.size for b in found if b.region == region)
        found.append(replace(buffer, region=region, offset=beside) if region else buffer)
    return found


@settings(max_examples=60, deadline=None)
@given(regions())
def test_regions_keep_their_distances(buffers: list[Buffer]) -> None:
    placement = plan(buffers)
    assert overlapping(buffers, placement) == []
    starts: dict[str, set[int]] = {}
    for buffer in buffers:
        if buffer.size:
            start = placement.offsets[buffer.name] - buffer.offset
            starts.setdefault(buffer.region or buffer.name, set()).add(start)
    assert all(len(found) == 1 and found.pop() % ALIGNMENT == 0 for found in starts.values())
    assert placement.size >= placement.lower_bound


def test_a_short_life_fits_into_the_part_of_a_region_that_waits() -> None:
    grown = [Buffer(f"r{i}", 640, i, 4, "r", 640 * i) for i in range(4)]
    placement = plan([*grown, Buffer("once", 640, 0, 1)])
    assert placement.size == placement.lower_bound == 4 * 640


def test_the_overlap_check_sees_an_overlap() -> None:
    buffers = [Buffer("a", 100, 0, 1), Buffer("b", 100, 1, 2)]
    assert overlapping(buffers, Plan({"a": 0, "b": 64}, 164, 200)) == [("a", "b")]


def test_a_chain_needs_two_neighbours() -> None:
    chain = [Buffer(f"b{i}", 1000, i, i + 1) for i in range(30)]
    placement = plan(chain)
    assert placement.size == placement.lower_bound == 2 * aligned(1000)


def test_lives_that_touch_at_one_step_meet() -> None:
    assert lower_bound([Buffer("a", 64, 0, 3), Buffer("b", 64, 3, 5)]) == 128
    assert lower_bound([Buffer("a", 64, 0, 2), Buffer("b", 64, 3, 5)]) == 64


@pytest.mark.parametrize("seed", range(5))
def test_the_search_comes_within_five_percent_on_branchy_lives(seed: int) -> None:
    import random

    chance = random.Random(seed)
    buffers = []
    for number in range(60):
        length = chance.choice([1, 1, 1, 2, 5])
        buffers.append(Buffer(f"b{number}", chance.choice([512, 4096, 6000, 20000]), number, number + length))
    assert plan(buffers).over_bound <= 1.05


def test_same_buffers_same_plan() -> None:
    buffers = [Buffer(f"b{i}", 700 * (i % 7 + 1), i, i + i % 4) for i in range(40)]
    assert plan(buffers) == plan(buffers)
