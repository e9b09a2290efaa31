from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mgmt_ray.base import fingerprint
from mgmt_ray.report.cautions import (
    EXTREME_LOSS,
    cautions,
    mixed_devices,
    pooled_splits,
    protocol_deviations,
)
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
    (registered,) = [s for s in accesses({"registered_before": 2}) if "register" in s]
    assert "had been accessed 2 times before by other studies" in registered
    (lost,) = [
        sentence for sentence in cautions(replace(results, openings=())) if "log" in sentence
    ]
    assert lost.startswith("No test-set access is logged although there are results")


def test_a_network_that_knows_only_its_training_subjects_is_named(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    members = results.members.assign(rule="best_m")
    network = members["network"].iloc[0]
    of_network = members[members["network"] == network]
    members.loc[of_network.index[:2], "rule"] = "last_epoch"
    learnt = results.epochs.assign(train_auc=0.97, validation_auc=0.7)
    is_own = learnt["trial"].isin(of_network["trial"])
    learnt.loc[is_own, "validation_auc"] = 0.55

    def named(epochs: pd.DataFrame) -> list[str]:
        texts = cautions(replace(results, members=members, epochs=epochs))
        return [text for text in texts if "on validation" in text]

    (caution,) = named(learnt)
    num = len(of_network)
    assert f"by heart: training AUC at least 0.95 in {num} of {num} members" in caution
    assert f"mean validation AUC 0.550; in 2 of {num} trainings no epoch" in caution
    (fallbacks,) = named(learnt.assign(train_auc=0.9))
    assert "by heart" not in fallbacks and f"in 2 of {num} trainings no epoch" in fallbacks


def test_what_was_evaluated_is_compared_with_the_protocol(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    (lost,) = protocol_deviations(replace(results, protocol=None))
    assert lost.startswith("No protocol.json was written")
    best = results.tables["best_ensembles"]
    chosen = best[best["chosen"] == 1].sort_values("outer_fold", kind="stable")
    protocol = {
        "study": fingerprint(results.config),
        "splits": [split.hash for split in results.splits],
        "members": fingerprint(sorted(results.members["trial"])),
        "primary": {n: r["ensemble"].tolist() for n, r in chosen.groupby("network", sort=False)},
        "num_trainings": 5,
        "amendments": [],
    }
    assert protocol_deviations(replace(results, protocol=protocol)) == []
    for key, text in {"study": "the study file", "primary": "the primary ensembles"}.items():
        (caution,) = protocol_deviations(replace(results, protocol=protocol | {key: "other"}))
        assert caution.endswith(f"before the test set was opened: {text} differ.")
    later = protocol | {"amendments": [protocol | {"members": "x"}, protocol]}
    (caution,) = protocol_deviations(replace(results, protocol=later))
    assert "amended 2 times" in caution and "changed: the members)" in caution


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


def test_trainings_of_one_network_in_several_precisions_are_cautioned_about() -> None:
    def trial(network: str, precision: str, gpu: str | None) -> dict[str, object]:
        used = {"gpu": {"name": gpu}} if gpu else {}
        settings = {"precision": precision, "compile": bool(gpu)}
        kind = {"kind": "spottune"}
        return {"network": network, "network_config": kind, "training_config": settings} | used

    mixed = [trial("spottune", "fp32", None), trial("spottune", "bf16", "A card")]
    trials = {str(i): t for i, t in enumerate([*mixed, trial("random", "fp32", None)])}
    (warning,) = mixed_devices(trials)
    assert "1 in bf16, compiled on A card; 1 in fp32 on CPU" in warning
    assert mixed_devices({"0": mixed[0], "1": mixed[0]}) == []
