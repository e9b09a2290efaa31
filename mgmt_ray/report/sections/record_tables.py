"""The tables of what was done: subjects, splits, trainings, members, provenance, access log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from mgmt_ray.cohort.cohort import Cohort, exclusion_flow
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.columns import Cell, Row, columns, make_table, text
from mgmt_ray.report.html_table import DASH, Table, slug
from mgmt_ray.report.study_results import StudyResults, has_only_slice_networks
from mgmt_ray.splits.split import Split, resolve_labels


def diverged_table(results: StudyResults) -> Table | None:
    """Return the trainings whose loss became NaN or infinite; None if there are none.

    Some may be of an earlier version of the study, with other learning rates.
    """
    if not results.diverged:
        return None

    def agent_rate(row: Row) -> str:
        is_routed = row["network_config"]["kind"] == "spottune"
        return f"{row['training_config']['agent_learning_rate']:g}" if is_routed else DASH

    cells = columns(
        {"Trial": text("id")},
        *("network", "modality"),
        {
            "Learning rate": lambda row: f"{row['training_config']['learning_rate']:g}",
            "Agent's\nlearning rate": agent_rate,
            "Last epoch with\na finite loss": lambda row: str(row["last_good_epoch"] or "none"),
        },
    )
    caption = "Diverged trainings: neither they nor others with the same settings were chosen"
    return make_table("diverged", caption, cells, results.diverged)


def provenance_table(results: StudyResults) -> Table:
    """Return commit, seeds, hashes and checksums of the study."""
    recorded = {k: cell_text(v) for k, v in results.provenance.items() if k != "versions"}
    repeats = sorted(set(results.members["repeat"]))
    rows = [
        *recorded.items(),
        ("study's seed", cell_text(results.seed)),
        ("split's seed", str(results.splits[0].seed)),
        ("split's hash", ", ".join(split.hash for split in results.splits)),
        ("cohort's hash", results.cohort.hash),
        ("repeats", ", ".join(map(str, repeats))),
    ]
    for stored in ("volumes", "slices"):
        if checksums := _checksums(results, f"{stored}_checksum"):
            rows.append((f"{stored}' checksums", checksums))
    rows += _mask_rows(results)
    return Table("provenance", "Provenance", ("Item", "Value"), tuple(rows), is_wide=True)


def versions_table(results: StudyResults) -> Table:
    """Return the versions of packages; several where trials were trained with different ones."""
    by_package: dict[str, set[str]] = {}
    records = [results.provenance, *results.trials.values(), *results.needed.values()]
    for versions in (record.get("versions") or {} for record in records):
        for package, version in versions.items():
            by_package.setdefault(package, set()).add(str(version))
    rows = tuple((name, ", ".join(sorted(by_package[name]))) for name in sorted(by_package))
    return Table("versions", "Versions", ("Package", "Version"), rows)


def _mask_rows(results: StudyResults) -> list[tuple[str, str]]:
    """Return how many masks were predicted, and by which study; empty if all are given."""
    source = results.config.get("mask_source")
    if not source:
        return []
    predicted = sum(s.mask_kind == "predicted" for s in results.cohort.subjects)
    of_all = f"{predicted} of {len(results.cohort.subjects)} subjects"
    return [("predicted masks", of_all), ("mask source", cell_text(source))]


def _checksums(results: StudyResults, key: str) -> str:
    """Return each modality with the first digits of the checksum of its volumes or slices."""
    checksums = {
        f"{modality} {checksum[:12]}"
        for trial in results.trials.values()
        for modality, checksum in (trial.get(key) or {}).items()
    }
    return ", ".join(sorted(checksums))


def cell_text(value: object) -> str:
    """Format a value of a JSON file; a dash for None.

    >>> cell_text(None), cell_text("PH"), cell_text([1, 2])
    ('–', 'PH', '[1, 2]')
    """
    if value is None:
        return DASH
    return value if isinstance(value, str) else json.dumps(value)


def flow_table(results: StudyResults, external: str = "") -> Table:
    """Count the subjects from all found, over exclusions by reason, to each group.

    Args:
        external: name of an external cohort; empty for the study's own.
    """
    rows = exclusion_flow(_cohort(results, external), _channels(results))
    caption = f"Flow of subjects of {external}" if external else "Flow of subjects"
    cells = tuple((step, str(n)) for step, n in rows)
    return Table(_table_name("flow", external), caption, ("Step", "Subjects"), cells)


def missing_groups_table(results: StudyResults, external: str = "") -> Table | None:
    """Count the reasons why subjects have no scans of a group; None if all have them.

    Args:
        external: name of an external cohort; empty for the study's own.
    """
    exclusions = _cohort(results, external).exclusions
    counts = Counter((e.scope, e.reason) for e in exclusions if e.scope != "cohort")
    if not counts:
        return None
    rows = tuple((scope, reason, str(n)) for (scope, reason), n in sorted(counts.items()))
    caption = "Subjects without a group" + (f" in {external}" if external else "")
    return Table(
        _table_name("without_group", external), caption, ("Group", "Reason", "Subjects"), rows
    )


def split_table(results: StudyResults) -> Table:
    """Count training, test and left-out subjects, in parentheses the methylated ones.

    A row per modality; for several outer splits a row per split.
    """
    channels = _channels(results)
    caption = "Subjects by role, in parentheses the methylated"
    if len(results.splits) == 1:
        (split,) = results.splits
        roles = _roles(split)
        filters = (("all", None), *((m, m) for m in channels))
        rows = tuple(
            (name, *(_count(results, split, ids, modality) for ids in roles.values()))
            for name, modality in filters
        )
        return Table("split", caption, ("Modality", *roles), rows)
    rows = tuple(
        (
            str(split.outer_fold),
            *(_count(results, split, ids) for ids in _roles(split).values()),
            *(_count(results, split, split.training, m) for m in channels),
        )
        for split in results.splits
    )
    folds = _roles(results.splits[0])
    header = ("Split", *folds, *(f"training\n{m}" for m in channels))
    return Table("split", caption, header, rows)


def split_notes(results: StudyResults) -> list[str]:
    """Return sentences on testing, repeated persons and fitted cut-offs."""
    notes = ["A number in parentheses counts methylated subjects."]
    if (results.config.get("split") or {}).get("test_set") == "per_modality":
        notes.append(
            "A model is tested on the test subjects that have its modalities, so that models of "
            "different modalities are tested on different subjects."
        )
    elif len(results.splits) == 1:
        notes.append("All models are tested on the same subjects.")
    else:
        notes.append(
            f"{len(results.splits)} splits: a model is tested on the test subjects of the split "
            "that it was trained in. A subject tested in several has its mean probability."
        )
    persons = Counter(s.person for s in results.cohort.subjects)
    num_repeated = sum(number > 1 for number in persons.values())
    if num_repeated:
        notes.append(
            f"Persons with several subjects: {num_repeated}. All subjects of a person have the "
            "same role."
        )
    cutoffs = [f"{split.cutoff:.4g}" for split in results.splits if split.cutoff is not None]
    if cutoffs:
        notes.append(
            "Labels follow from the median score of the training subjects alone: "
            f"{', '.join(cutoffs)}; scores above it count as methylated."
        )
    return notes


def _roles(split: Split) -> dict[str, tuple[str, ...]]:
    roles = {"training": split.training, "test": split.test, "left out": split.left_out}
    return roles | {f"fold {i + 1}": fold for i, fold in enumerate(split.folds)}


def _count(
    results: StudyResults, split: Split, ids: tuple[str, ...], modality: str | None = None
) -> str:
    label = resolve_labels(split, results.cohort)
    selected = set(ids)
    present = [
        s.id
        for s in results.cohort.subjects
        if s.id in selected and (modality is None or modality in s.scans)
    ]
    return f"{len(present)} ({sum(label[i] for i in present)})"


def training_table(results: StudyResults) -> Table:
    """Summarise the trainings of each network's members and of their segmentations."""
    rows = []
    for network, members in results.members.groupby("network", sort=False):
        trials = [results.trials[name] for name in members["trial"]]
        needed = {name for trial in trials for name in trial.get("needs") or ()}
        label = network_label(str(network))
        rows.append(_training_row(label, trials))
        if needed:
            segmentations = [results.needed[name] for name in sorted(needed)]
            rows.append(_training_row(f"{label}, segmentations", segmentations))
    header = (
        "Network",
        "Models",
        "Parameters trained",
        "Training subjects",
        "Training slices" if has_only_slice_networks(results) else "Training volumes",
        "Median seconds",
        "Minutes in total",
    )
    return Table("trainings", "Trainings of the members", header, tuple(rows))


def _training_row(label: str, trials: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    seconds = [float(t["seconds"]) for t in trials if "seconds" in t]
    return (
        label,
        str(len(trials)),
        _range_cell([t.get("trained_parameters") for t in trials]),
        _range_cell([t.get("num_train_subjects") for t in trials]),
        _range_cell([t.get("num_train_volumes") for t in trials]),
        f"{median(seconds):.1f}" if seconds else DASH,
        f"{sum(seconds) / 60:.1f}" if seconds else DASH,
    )


def members_table(results: StudyResults) -> Table:
    """Return a row for each model in the ensembles."""
    settings: dict[str, Cell] = {
        "Hyper-parameters": lambda row: _hyperparameter_cell(row["hyperparameters"])
    }
    weights: dict[str, Cell] = {"Weights (SHA-256)": lambda row: row["weights_sha256"][:12]}
    trained = ("trial", "network", "modality", "outer_fold", "fold", "repeat")
    cells = columns(*trained, settings, "rule", "epoch", "validation_m", weights)
    caption = "Members of the ensembles, chosen on validation folds only"
    return make_table("members", caption, cells, results.members)


def openings_table(results: StudyResults) -> Table | None:
    """Return the test-set access log; None if it is empty."""
    if not results.openings:
        return None
    keys = tuple(dict.fromkeys(key for opening in results.openings for key in opening))
    rows = tuple(
        (str(number), *(cell_text(opening.get(key)) for key in keys))
        for number, opening in enumerate(results.openings, 1)
    )
    return Table("openings", "Test-set access log", ("No.", *keys), rows, is_wide=True)


def protocol_table(results: StudyResults) -> Table | None:
    """Return what was decided before the test set was opened; None if it was not recorded."""
    if results.protocol is None:
        return None
    amendments = results.protocol.get("amendments", [])
    versions = [results.protocol, *amendments]
    keys = [key for key in results.protocol if key != "amendments"]
    rows = tuple((key, *(cell_text(version.get(key)) for version in versions)) for key in keys)
    header = ("Item", "Declared", *(f"Amendment {i}" for i in range(1, len(versions))))
    caption = "Protocol, written before the test set was opened"
    return Table("protocol", caption, header, rows, is_wide=True)


def _table_name(table: str, external: str) -> str:
    return f"{table}_{slug(external)}" if external else table


def _cohort(results: StudyResults, external: str) -> Cohort:
    return results.external[external].cohort if external else results.cohort


def _channels(results: StudyResults) -> tuple[str, ...]:
    """Return the modalities that any model takes, alone or as a channel."""
    used = {channel for name in results.inputs for channel in name.split("+")}
    return tuple(m for m in results.cohort.modalities if m in used)


def _range_cell(numbers: list[int | None]) -> str:
    """Return the number, or the least and the greatest if they differ."""
    known = [n for n in numbers if n is not None]
    if not known:
        return DASH
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _hyperparameter_cell(hyperparameters: str) -> str:
    values = json.loads(hyperparameters)
    return ", ".join(f"{k} {cell_text(v)}" for k, v in values.items()) or DASH
