from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.prediction.access_log import log_access
from mgmt_ray.prediction.protocol import declare_protocol
from mgmt_ray.study.folder import StudyFolder

FIRST = {"study": "a", "primary": {"spottune": ["DSC"]}, "num_trainings": 3}


def declared(folder: StudyFolder) -> dict[str, Any]:
    content = json.loads(folder.protocol.read_text())
    assert isinstance(content, dict)
    return content


def test_before_the_test_set_is_opened_the_last_protocol_counts(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    declare_protocol(folder, FIRST)
    declare_protocol(folder, FIRST | {"study": "b"})
    protocol = declared(folder)
    assert protocol.pop("time") and protocol == FIRST | {"study": "b", "amendments": []}


def test_after_that_it_stays_and_each_change_is_an_amendment(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    declare_protocol(folder, FIRST)
    before = declared(folder)
    log_access(folder, "ensembles", {}, ["member"])
    declare_protocol(folder, FIRST)
    assert declared(folder) == before
    for study in ("b", "b", "a"):
        declare_protocol(folder, FIRST | {"study": study})
    after = declared(folder)
    assert [amendment["study"] for amendment in after.pop("amendments")] == ["b", "a"]
    before.pop("amendments")
    assert after == before


@pytest.mark.parametrize("text", ["{", "3"])
def test_a_damaged_protocol_is_not_replaced(tmp_path: Path, text: str) -> None:
    folder = StudyFolder(tmp_path)
    folder.protocol.write_text(text)
    with pytest.raises(MgmtError, match=r"protocol.json: is not JSON .*Restore it"):
        declare_protocol(folder, FIRST)
    assert folder.protocol.read_text() == text
