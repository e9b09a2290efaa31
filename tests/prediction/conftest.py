from __future__ import annotations

from collections.abc import Callable

import pytest

from mgmt_ray.pipeline.stages import plan_study, prepare, select
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import StudyContext, TrialInputs
from mgmt_ray.trials.tune import run_trials

Trained = tuple[StudyContext, TrialInputs, list[Trial]]


@pytest.fixture
def make_trained(make_job: Callable[..., StudyContext]) -> Callable[..., Trained]:
    """A study whose trials are finished."""

    def make(**sections: object) -> Trained:
        context = make_job(**sections)
        selected = select(context)
        inputs, trials = plan_study(context, selected)
        prepare(context, selected)
        run_trials(trials, inputs)
        return context, inputs, trials

    return make
