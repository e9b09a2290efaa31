from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mgmt_ray.report.cautions import EXTREME_LOSS, cautions, pooled_splits
from mgmt_ray.report.study_results import read_study_results


def test_an_external_cohort_is_cautioned_about_like_the_test_set(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    plausible = results.metrics.assign(auc=0.6, auc_low=0.5, auc_high=0.7)
    external = replace(results.external["elsewhere"], openings=({}, {}))
    text = " ".join(cautions(replace(results, metrics=plausible, external={"elsewhere": external})))
    assert "External cohort elsewhere was predicted 2 times" in text
    # the cohort's signal is far above what honest studies reach
    assert "look for leakage" in text
    assert "look for leakage" not in " ".join(
        cautions(replace(results, metrics=plausible, external={}))
    )


def test_extreme_losses_are_counted_in_chosen_epochs_only(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    assert not [text for text in cautions(results) if "nats" in text]
    kept = results.members.iloc[:2].set_index("trial")["epoch"]
    epochs = results.epochs.copy()
    is_kept = epochs["epoch"] == epochs["trial"].map(kept)
    other = epochs["trial"].isin(kept.index) & ~is_kept
    epochs.loc[is_kept, "validation_loss"] = [EXTREME_LOSS + 1, EXTREME_LOSS]
    epochs.loc[other, "validation_loss"] = 2 * EXTREME_LOSS
    (caution,) = [text for text in cautions(replace(results, epochs=epochs)) if "nats" in text]
    assert caution.startswith(f"1 of {len(results.members)} members have a validation loss above 5")


def test_accesses_for_pictures_are_counted_apart_from_those_for_results(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    explained = {"purpose": "explain", "subjects": ["S0001"]}

    def accesses(*openings: dict[str, object]) -> list[str]:
        sentences = cautions(replace(results, openings=openings))
        return [sentence for sentence in sentences if "accessed" in sentence]

    (once,) = accesses({}, explained)
    assert once.startswith("Test subjects were accessed once to explain")
    repeated = accesses({}, explained, {}, explained)
    assert repeated[0].startswith("The test set was accessed 2 times")
    assert repeated[1].startswith("Test subjects were accessed 2 times")
    (lost,) = [
        sentence for sentence in cautions(replace(results, openings=())) if "log" in sentence
    ]
    assert lost.startswith("No test-set access is logged although there are results")


def test_tested_subjects_of_one_person_are_counted(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    assert not [text for text in cautions(results) if "persons" in text]
    tested = sorted(set(results.predictions["subject"]))
    person = dict.fromkeys(tested[:3], "P") | dict.fromkeys(tested[3:5], "Q")
    subjects = tuple(replace(s, person=person.get(s.id, s.id)) for s in results.cohort.subjects)
    repeated = replace(results, cohort=replace(results.cohort, subjects=subjects))
    (caution,) = [text for text in cautions(repeated) if "persons" in text]
    assert caution.startswith("The test set has 5 subjects of 2 persons with more than one each")
    assert "too narrow" in caution
    # those who were not tested do not count
    untested = replace(
        repeated, predictions=results.predictions[lambda t: t["subject"] > tested[4]]
    )
    assert not [text for text in cautions(untested) if "persons" in text]


def test_an_external_cohorts_persons_are_counted_for_themselves(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    external = results.external["elsewhere"]
    subjects = tuple(replace(s, person=s.id[:4]) for s in external.cohort.subjects)
    other = replace(external, cohort=replace(external.cohort, subjects=subjects))
    (caution,) = [t for t in cautions(replace(results, external={"x": other})) if "persons" in t]
    assert caution.startswith("External cohort x has 80 subjects of 8 persons")


def test_pooled_splits_are_cautioned_about(nested_study: Path, study: Path) -> None:
    nested, single = read_study_results(nested_study), read_study_results(study)
    assert pooled_splits(nested).startswith("The test subjects of 2 splits are pooled")
    assert pooled_splits(nested) in cautions(nested)
    assert pooled_splits(single) == ""
    assert "" not in cautions(single)
