from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mgmt_ray.report.times import is_before, read_time

NINE = datetime(2024, 11, 21, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "read"),
    [
        ("2024-11-21T09:00:00+00:00", NINE),
        ("2024-11-21T10:00:00+01:00", NINE),
        ("2024-11-21T09:00:00", NINE),
        ("then", None),
        (None, None),
    ],
)
def test_a_time_is_read_or_not_known(time: str | None, read: datetime | None) -> None:
    assert read_time({"time": time}) == read


def test_what_is_not_known_is_before_nothing() -> None:
    assert is_before(NINE, NINE.replace(hour=10))
    assert not is_before(NINE, NINE)
    assert not is_before(None, NINE) and not is_before(NINE, None)
