from __future__ import annotations

import pytest

from mgmt_ray.search.rungs import rung_epochs, survivors

SCORES = {f"c{i}": i for i in range(9)}


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        ({}, ([*SCORES], 1)),
        (dict.fromkeys([*SCORES][:4], 1), ([*SCORES][4:], 1)),
        (dict.fromkeys(SCORES, 1), (["c6", "c7", "c8"], 3)),
        (dict.fromkeys(SCORES, 1) | {"c8": 3, "c7": 3}, (["c6"], 3)),
        (dict.fromkeys(SCORES, 1) | dict.fromkeys(["c6", "c7", "c8"], 3), (["c8"], 9)),
        (dict.fromkeys(SCORES, 1) | {"c6": 3, "c7": 3, "c8": 9}, ([], 9)),
    ],
)
def test_the_best_third_goes_on(reached: dict[str, int], expected: tuple[list[str], int]) -> None:
    given = survivors(
        [*SCORES],
        rung_epochs(9),
        lambda name, rung: reached.get(name, 0) >= rung,
        lambda name, rung: (SCORES[name],),
    )
    assert given == expected
