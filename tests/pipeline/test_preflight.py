from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.medicalnet import write_medicalnet
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.pipeline.stages import bring_up_to_date
from mgmt_ray.trials.context import StudyContext

SMALL = {"depth": 10, "width": 4}


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({"net": {"kind": "transfer", "depth": 18, "width": 4}}, "does not fit the network"),
        ({"net": {"kind": "random", **SMALL, "start_from": "absent"}}, "0 trials with weights"),
    ],
)
def test_an_unfit_network_is_an_error_before_any_volume_is_prepared(
    networks: dict[str, dict[str, object]], message: str, make_job: Callable[..., StudyContext]
) -> None:
    context = make_job(networks=networks, inputs=[["FLAIR"]])
    with pytest.raises(MgmtError, match=message):
        bring_up_to_date(context)
    assert not context.folder.volumes.exists()
    assert not context.folder.trials.exists()


def test_a_missing_checkpoint_is_named_with_the_networks_that_need_it(
    make_job: Callable[..., StudyContext], tmp_path: Path
) -> None:
    context = make_job(networks={"net": {"kind": "transfer", **SMALL}}, inputs=[["FLAIR"]])
    (tmp_path / "link.pth").symlink_to("absent.pth")
    for path, fault in (
        (None, "none are given"),
        (tmp_path / "absent.pth", "absent.pth: no such file"),
        (tmp_path / "link.pth", "link.pth: the link is broken"),
        (tmp_path, "is a folder"),
    ):
        study = context.study.model_copy(update={"checkpoint": path})
        with pytest.raises(MgmtError, match=f"net start from pretrained weights, and .*{fault}"):
            bring_up_to_date(StudyContext(study, context.folder, context.resources))
    write_medicalnet(ResNet3d(10, 8, 1, 1), tmp_path / "wide.pth")
    study = context.study.model_copy(update={"checkpoint": tmp_path / "wide.pth"})
    with pytest.raises(MgmtError, match=r"of another shape: bn1\.bias \(8,\) instead of \(4,\), "):
        bring_up_to_date(StudyContext(study, context.folder, context.resources))
