"""What differs between the files that are kept and those of a run: to the bit, or portably."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

CHECKSUM = re.compile(r"[0-9a-f]{64}")

ONLY_EXACT = ("checksums.json", "epochs.csv")
"""Files that are compared to the bit or not at all. Of epochs only the last counts, and its results
are in other files; the ranks within each epoch may hang on rounding."""

CHECKSUMS_OF_NAMES = ("splits.json", "test_openings.jsonl")
"""Files whose checksums follow from names and labels; in others, from weights and volumes."""


class Tolerance(NamedTuple):
    """How far a number may be from the one that is kept, as ``math.isclose`` takes it."""

    absolute: float
    relative: float = 0.0
    pixels: int = 0


EQUAL = 1e-9
"""Probabilities of fp32 networks that are closer are equal but for the order of a sum."""

USUAL = Tolerance(1e-4)
"""Between AVX-512 and AVX2 kernels, probabilities of volumes differ by 6e-7 and those of slices by
1e-5 (measured); what follows from ranks and counts does not, as :func:`closest` makes sure.
Without AVX2, torch draws other normal numbers in the last digits: 2e-4 in a network on volumes."""

TOLERANCES = {
    # The slope of nearly equal probabilities is in the tens or hundreds: its relative error counts.
    "calibration.csv": Tolerance(1e-4, relative=1e-2),
    # A pixel at the segmentation's threshold may fall on either side: one of a thousand.
    "segmentations.csv": Tolerance(1e-3, pixels=8),
    "radiomics.csv": Tolerance(1e-4, relative=1e-5),  # an energy is in the hundreds of millions
    "slice_overlap.csv": Tolerance(1e-3),
    "slice_predictions.csv": Tolerance(1e-3, pixels=2),
}


def differences(expected: Mapping[str, str], found: Mapping[str, str], exact: bool) -> list[str]:
    """One line per difference, the file in front.

    Args:
        expected: file names to texts, as they are kept.
        found: the same of a run.
        exact: whether every digit and checksum must be equal.
    """
    lines = [f"{name}: is not kept" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected):
        if name not in found:
            lines.append(f"{name}: is not there")
        elif exact:
            lines += [f"{name}: {line}" for line in _unequal_lines(expected[name], found[name])]
        elif name not in ONLY_EXACT:
            lines += [f"{name}: {line}" for line in _far(name, expected[name], found[name])]
    return lines


def closest(predictions: str) -> float:
    """The smallest distance of two unequal probabilities of one ensemble, or of one to 0.5.

    Ranks and decisions that are compared do not hang on rounding where this is large. Models that
    are no ensemble of networks (their name stands for both) are left out: float64 all through.

    Args:
        predictions: text of a table with the columns network, ensemble and probability.
    """
    values: dict[tuple[str, str], set[float]] = {}
    for row in csv.DictReader(io.StringIO(predictions)):
        network, ensemble = row["network"], row["ensemble"]
        if network != ensemble:
            values.setdefault((network, ensemble), {0.5}).add(float(row["probability"]))
    gaps = [math.inf]
    for probabilities in values.values():
        ordered = sorted(probabilities)
        gaps += [high - low for low, high in pairwise(ordered)]
    return min(gap for gap in gaps if gap > EQUAL)


def _unequal_lines(expected: str, found: str) -> Iterator[str]:
    before, now = expected.splitlines(), found.splitlines()
    if len(before) != len(now):
        yield f"{len(now)} lines, not {len(before)}"
    for number, (a, b) in enumerate(zip(before, now, strict=False), start=1):
        if a != b:
            yield f"line {number}: {b} is not {a}"


def _far(name: str, expected: str, found: str) -> Iterator[str]:
    contents = [_content(name, text) for text in (expected, found)]
    if name not in CHECKSUMS_OF_NAMES:
        contents = [_numbered(content, {}) for content in contents]
    yield from _unlike("", *contents, TOLERANCES.get(name, USUAL))


def _content(name: str, text: str) -> Any:
    """Of a JSON file or a table: lists, mappings, numbers and texts."""
    if name.endswith(".json"):
        return json.loads(text)
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return [{k: _cell(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(text))]


def _cell(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _numbered(content: Any, numbers: dict[str, int]) -> Any:
    """The same with each checksum replaced by its number in the order of first appearance."""
    match content:
        case dict():
            return {key: _numbered(value, numbers) for key, value in content.items()}
        case list():
            return [_numbered(item, numbers) for item in content]
        case str() if CHECKSUM.fullmatch(content):
            return f"checksum {numbers.setdefault(content, len(numbers))}"
    return content


def _unlike(place: str, a: Any, b: Any, tolerance: Tolerance) -> Iterator[str]:
    """Where b is not like a; keys and their order, lengths, texts and whole numbers are exact."""
    match a, b:
        case (dict(), dict()) if list(a) == list(b):
            for key in a:
                yield from _unlike(f"{place}/{key}", a[key], b[key], tolerance)
        case (dict(), dict()):
            yield f"{place}: has {', '.join(b)}, not {', '.join(a)}"
        case (list(), list()) if len(a) == len(b):
            for number, (one, other) in enumerate(zip(a, b, strict=True)):
                yield from _unlike(f"{place}/{number}", one, other, tolerance)
        case (list(), list()):
            yield f"{place}: has {len(b)} items, not {len(a)}"
        case _ if not _alike(place, a, b, tolerance):
            yield f"{place}: {b} is not {a}"


def _alike(place: str, a: Any, b: Any, tolerance: Tolerance) -> bool:
    if a == b and type(a) is type(b):
        return True
    if isinstance(a, int) and isinstance(b, int):
        return place.endswith(("pixels", "voxels")) and abs(a - b) <= tolerance.pixels
    if isinstance(a, float) and isinstance(b, float):
        close = math.isclose(a, b, abs_tol=tolerance.absolute, rel_tol=tolerance.relative)
        return close or (math.isnan(a) and math.isnan(b))
    return False
