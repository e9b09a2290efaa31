from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mgmt_ray.report.cautions import EXTREME_LOSS, cautions, pooled_splits
from mgmt_ray.report.gather import read_study_results


def test_an_external_cohort_is_cautioned_about_like_the_test_set(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    own = results.metrics.assign(auc=0.6, auc_low=0.5, auc_high=0.7)
    external = replace(results.external["elsewhere"], openings=({}, {}))
    words = " ".join(cautions(replace(results, metrics=own, external={"elsewhere": external})))
    assert "External cohort elsewhere was predicted 2 times" in words
    # the cohort's signal is far above what honest studies reach
    assert "look for leakage" in words
    assert "look for leakage" not in " ".join(cautions(replace(results, metrics=own, external={})))


def test_losses_worse_than_a_guess_are_told_of_kept_epochs_alone(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    assert not [words for words in cautions(results) if "nats" in words]
    kept = results.members.iloc[:2].set_index("trial")["epoch"]
    epochs = results.epochs.copy()
    is_kept = epochs["epoch"] == epochs["trial"].map(kept)
    other = epochs["trial"].isin(kept.index) & ~is_kept
    epochs.loc[is_kept, "validation_loss"] = [EXTREME_LOSS + 1, EXTREME_LOSS]
    epochs.loc[other, "validation_loss"] = 2 * EXTREME_LOSS
    (told,) = [words for words in cautions(replace(results, epochs=epochs)) if "nats" in words]
    assert told.startswith(f"1 of {len(results.members)} members have a validation loss above 5")


def test_openings_for_pictures_are_told_apart_from_those_for_results(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    seen = {"purpose": "explain", "subjects": ["S0001"]}
    once = [words for words in cautions(replace(results, openings=({}, seen))) if "seen" in words]
    assert len(once) == 1
    assert once[0].startswith("Test subjects were looked at once to explain")
    often = [
        words
        for words in cautions(replace(results, openings=({}, seen, {}, seen)))
        if "seen" in words
    ]
    assert often[0].startswith("The test set was opened 2 times")
    assert often[1].startswith("Test subjects were looked at 2 times")


def test_tested_subjects_of_one_person_are_counted(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    assert not [words for words in cautions(results) if "persons" in words]
    tested = sorted(set(results.predictions["subject"]))
    person = dict.fromkeys(tested[:3], "P") | dict.fromkeys(tested[3:5], "Q")
    subjects = tuple(replace(s, person=person.get(s.id, s.id)) for s in results.cohort.subjects)
    repeated = replace(results, cohort=replace(results.cohort, subjects=subjects))
    (told,) = [words for words in cautions(repeated) if "persons" in words]
    assert told.startswith("The test set has 5 subjects of 2 persons with more than one each")
    assert "too narrow" in told
    # those who were not tested do not count
    untested = replace(
        repeated, predictions=results.predictions[lambda t: t["subject"] > tested[4]]
    )
    assert not [words for words in cautions(untested) if "persons" in words]


def test_an_external_cohorts_persons_are_counted_for_themselves(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    external = results.external["elsewhere"]
    subjects = tuple(replace(s, person=s.id[:4]) for s in external.cohort.subjects)
    other = replace(external, cohort=replace(external.cohort, subjects=subjects))
    (told,) = [w for w in cautions(replace(results, external={"x": other})) if "persons" in w]
    assert told.startswith("External cohort x has 80 subjects of 8 persons")


def test_pooled_splits_are_cautioned_about(nested_study: Path, study: Path) -> None:
    nested, one = read_study_results(nested_study), read_study_results(study)
    assert pooled_splits(nested).startswith("The test subjects of 2 splits are pooled")
    assert pooled_splits(nested) in cautions(nested)
    assert pooled_splits(one) == ""
    assert "" not in cautions(one)
