"""The stages of a small study, up to a point."""

from __future__ import annotations

from mgmt_ray.pipeline.stages import ensemble, plan_study, prepare, select, train
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import StudyContext, TrialInputs


def planned(context: StudyContext) -> tuple[TrialInputs, list[Trial]]:
    return plan_study(context, select(context))


def prepared(context: StudyContext) -> tuple[TrialInputs, list[Trial]]:
    selected = select(context)
    prepare(context, selected)
    return plan_study(context, selected)


def trained(context: StudyContext) -> tuple[TrialInputs, list[Trial]]:
    inputs, trials = prepared(context)
    train(trials, inputs)
    return inputs, trials


def evaluated(context: StudyContext) -> tuple[TrialInputs, list[Trial]]:
    inputs, trials = trained(context)
    ensemble(trials, inputs, {})
    return inputs, trials
