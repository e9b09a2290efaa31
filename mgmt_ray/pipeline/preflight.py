"""What would fail after hours of work, refused before them."""

from __future__ import annotations

from collections.abc import Sequence

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.build import build_any
from mgmt_ray.study.config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.run_trial import checkpoint_checksum
from mgmt_ray.trials.warm_start import find_start, refuse_unfit_start


def refuse_unfit_networks(study: StudyConfig, trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Refuse networks that could not be built, or that must not start from where they would.

    Args:
        study: its networks and checkpoint.
        trials: the whole plan.
        inputs: of the study; volumes need not be there.

    Raises:
        MgmtError: there is no checkpoint, it does not fit a network, or a trial's start is not
            there, of another network, or has seen whom the trial is judged by.
    """
    _refuse_missing_checkpoint(study)
    left = [t for t in trials if not inputs.folder.is_finished(t.id)]
    # networks of the same configuration differ only in their number of channels
    different = {(t.network, t.stage, len(t.channels)): t for t in left}
    for trial in different.values():
        build_any(trial.network_config, len(trial.channels), 1.0, study.checkpoint)
    for trial in trials:
        start = find_start(trial)
        if start:
            split, checkpoint = inputs.splits[trial.outer], checkpoint_checksum(trial, inputs)
            refuse_unfit_start(trial, start, split, inputs.cohort, checkpoint)


def _refuse_missing_checkpoint(study: StudyConfig) -> None:
    pretrained = [name for name, network in study.networks.items() if network.pretrained]
    if pretrained and (study.checkpoint is None or not study.checkpoint.is_file()):
        fault = f"{study.checkpoint} is not there" if study.checkpoint else "none are given"
        raise MgmtError(
            f"{', '.join(pretrained)} start from pretrained weights, and {fault}. "
            "Give MedicalNet's .pth file with --checkpoint FILE."
        )
