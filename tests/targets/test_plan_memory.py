"""Placement: nothing overlaps, the bound is a bound, and the search reaches it where greedy does not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.targets.abi import ALIGNMENT
from graphopt.targets.exact_placement import best_placement
from graphopt.targets.plan_memory import Buffer, Overlap, Plan, aligned, lower_bound, plan


def overlapping(
    buffers: list[Buffer], placement: Plan, allowed: dict[tuple[str, str], Overlap] | None = None
) -> list[tuple[str, str]]:
    """Pairs that are alive together and share bytes, unless they may as they do."""
    return [
        (a.name, b.name)
        for a, b in itertools.combinations([b for b in buffers if b.size], 2)
        if a.meets(b)
        and placement.offsets[a.name] < placement.offsets[b.name] + b.size
        and placement.offsets[b.name] < placement.offsets[a.name] + a.size
        and not any(
            distance >= overlap.least or (overlap.in_place and distance == 0)
            for x, y in ((a, b), (b, a))
            if (overlap := (allowed or {}).get((x.name, y.name)))
            for distance in [placement.offsets[x.name] - placement.offsets[y.name]]
        )
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


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=30, deadline=None)
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


@st.composite
def with_overlaps(draw: st.DrawFn) -> tuple[list[Buffer], dict[tuple[str, str], Overlap]]:
    """Pairs of which one is read last where the other is written, some of them in regions, may share something."""
    buffers = draw(regions())
    allowed = {
        (a.name, b.name): Overlap(draw(st.integers(-a.size, b.size)), draw(st.booleans()))
        for a, b in itertools.permutations([b for b in buffers if b.size], 2)
        if a.last == b.first and a.first < b.first and (not a.region or a.region != b.region)
    }
    return buffers, allowed


@settings(max_examples=40, deadline=None)
@given(with_overlaps())
def test_no_more_is_shared_than_is_allowed(
    given: tuple[list[Buffer], dict[tuple[str, str], Overlap]],
) -> None:
    buffers, allowed = given
    placement = plan(buffers, overlaps=allowed)
    assert overlapping(buffers, placement, allowed) == []
    assert placement.lower_bound <= placement.size


def test_what_is_written_in_place_takes_nothing() -> None:
    """A residual: y is added to x by the step that writes z over it."""
    block = [Buffer("x", 640, 0, 2), Buffer("y", 640, 1, 2), Buffer("z", 640, 2, 3)]
    assert plan(block).size == 3 * 640
    placement = plan(block, overlaps={("x", "z"): Overlap(640, in_place=True)})
    assert placement.size == placement.lower_bound == 2 * 640
    assert placement.offsets["x"] == placement.offsets["z"]


def test_a_chain_of_overlaps_takes_one_buffer_and_what_they_are_apart() -> None:
    chain = [Buffer(f"b{i}", 6400, i, i + 1) for i in range(8)]
    near = {(f"b{i}", f"b{i + 1}"): Overlap(100) for i in range(7)}
    placement = plan(chain, overlaps=near)
    assert placement.size == 6400 + 7 * aligned(100)
    assert placement.lower_bound == 6400 + aligned(100)
    assert placement.is_best


def test_few_buffers_are_placed_as_well_as_can_be() -> None:
    """Every order of six buffers by brute force, many of which no greedy order places best."""
    chance = random.Random(1)
    for _ in range(25):
        buffers = []
        for number in range(6):
            first = chance.randrange(5)
            last = first + chance.randrange(3)
            buffers.append(Buffer(f"b{number}", chance.randrange(1, 9) * ALIGNMENT, first, last))
        placement = plan(buffers)
        assert placement.is_best
        assert placement.size == min(_stacked(order) for order in itertools.permutations(buffers))


def _stacked(order: Sequence[Buffer]) -> int:
    """The size of the arena where each buffer in turn takes the lowest place."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in order:
        offset = 0
        for start, other in sorted(placed, key=lambda one: one[0]):
            if buffer.meets(other) and offset < start + other.size and start < offset + buffer.size:
                offset = start + other.size
        placed.append((offset, buffer))
    return max(start + buffer.size for start, buffer in placed)


def test_a_search_finds_what_greedy_orders_and_moves_do_not() -> None:
    """Branch and bound alone, from an arena in which all lie side by side."""
    sizes = [2, 1, 3, 2, 1]
    meets = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
    apart = [
        [[(-sizes[a], sizes[b])] if (a, b) in meets or (b, a) in meets else [] for b in range(5)]
        for a in range(5)
    ]
    starts, is_best = best_placement(sizes, apart, 1, sum(sizes), 5)
    assert is_best and starts is not None
    assert max(start + size for start, size in zip(starts, sizes, strict=True)) == 5


def test_bands_of_a_result_take_the_place_of_rows_that_were_read() -> None:
    """Patches: an image is read from its beginning on, the result is written from its beginning on."""
    rows = [Buffer(f"x{i}", 1024, -1, 2 * i, "x", 1024 * i) for i in range(6)]
    bands = [Buffer(f"y{i}", 768, 2 * i + 1, 20, "y", 768 * i) for i in range(6)]
    between = [Buffer(f"b{i}", 1536, 2 * i, 2 * i + 1) for i in range(6)]
    placement = plan([*rows, *between, *bands, Buffer("z", 1024, 20, 21)])
    assert placement.size == placement.lower_bound == 6 * 1024 + 1536


def test_two_operands_share_one_result() -> None:
    """Neither may share more than there is."""
    buffers = [Buffer("a", 640, 0, 1), Buffer("b", 640, 0, 1), Buffer("c", 640, 1, 2)]
    both = {("a", "c"): Overlap(-640), ("b", "c"): Overlap(-640)}
    assert plan(buffers, overlaps=both).size == lower_bound(buffers, both) == 2 * 640


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
    chance = random.Random(seed)
    buffers = []
    for number in range(60):
        length = chance.choice([1, 1, 1, 2, 5])
        buffers.append(Buffer(f"b{number}", chance.choice([512, 4096, 6000, 20000]), number, number + length))
    assert plan(buffers).over_bound <= 1.05


def test_same_buffers_same_plan() -> None:
    buffers = [Buffer(f"b{i}", 700 * (i % 7 + 1), i, i + i % 4) for i in range(40)]
    assert plan(buffers) == plan(buffers)
