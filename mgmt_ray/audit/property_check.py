"""Check for plain properties of files, table and masks that separate the classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgmt_ray.audit.audited_study import LEVELS, AuditContext, Check, permuted_label_rows
from mgmt_ray.audit.image_matching import tumour_box
from mgmt_ray.audit.plain_properties import PlainProperty, Source, plain_properties
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.splits.split import resolve_labels
from mgmt_ray.statistics.leak_detection import PropertyAssociation, Value, associate_properties
from mgmt_ray.statistics.planted_signal import SUSPICIOUS_AUC

NAME = "plain properties"
PERMUTATIONS = 999
LEVEL = LEVELS[NAME]

IMPLAUSIBLE_AUC: dict[Source, float] = {
    "file": SUSPICIOUS_AUC,
    "table": SUSPICIOUS_AUC,
    "biology": 0.9,
}
"""A property that is associated and has at least this AUC is a leak.

How a file was made cannot depend on methylation, but sites differ in scanners and in the share of
methylated patients, as they do in age: such a property is a leak where it separates the classes
better than any careful study's network does, and else a warning. Age, sex and what can be measured
of a tumour may truly go with methylation: they are a leak only where they separate as no biology
could, and else are reported without a warning, since the baselines have them too.
"""


@dataclass(frozen=True, slots=True)
class CheckedProperty:
    """A property, and how well it separates the classes.

    Attributes:
        alike: other properties that divide the subjects in the same way.
    """

    name: str
    source: Source
    association: PropertyAssociation
    alike: int = 0

    @property
    def is_leak(self) -> bool:
        """Whether it separates the classes implausibly well; only asked where associated."""
        return self.association.auc >= IMPLAUSIBLE_AUC[self.source]

    def __str__(self) -> str:
        more = f" and {self.alike} alike" if self.alike else ""
        return f"{self.name}{more}: AUC {self.association.auc:.2f} (p = {self.association.p:.3f})"


def check_properties(audit: AuditContext) -> Check:
    """Test every plain property of the training subjects, one of each person, for the label.

    What depends on the voxels is skipped in modalities with a planted signal.
    """
    ids = _one_per_person(audit)
    label = resolve_labels(audit.splits[0], audit.cohort)
    labels = np.array([label[s] for s in ids], dtype=np.int64)
    sources, table = _table(audit, ids)
    distinct = _distinct(sources, table)
    permuted = permuted_label_rows(audit, ids, PERMUTATIONS)
    associations = associate_properties([table[n] for n in distinct], labels, permuted)
    tested = [
        CheckedProperty(name, sources[name], association, alike)
        for (name, alike), association in zip(distinct.items(), associations, strict=True)
    ]
    return judge_properties(tested, f"{len(table)} properties of {len(ids)} training persons")


def judge_properties(tested: list[CheckedProperty], scope: str) -> Check:
    """Return the check's outcome, from properties of one family."""
    expected = f"no property of file, table or mask tells the label (family-wise p > {LEVEL})"
    tested = sorted(tested, key=lambda each: (each.association.p, -each.association.auc))
    found = [each for each in tested if each.association.p <= LEVEL]
    leaks = [each for each in found if each.is_leak]
    odd = [each for each in found if each.source != "biology"]
    if not leaks and not odd:
        text = f"{scope}; the strongest is {tested[0]}" if tested else scope
        if found:
            shown = shorten_list([str(each) for each in found], 3)
            text = f"{scope}; associated, as biology may be: {shown}"
        return Check(NAME, "passed", expected, text)
    shown = shorten_list([str(each) for each in leaks or odd], 5)
    text = f"{len(leaks or odd)} of {scope}: {shown}"
    if leaks:
        remedy = (
            "The classes were made or collected differently: write the files again in one way for "
            "all subjects, take the masks of one kind, or leave out what differs; then rerun the "
            "study. A property that the networks do not read shows that the classes came apart."
        )
        return Check(NAME, "failed", expected, text, remedy)
    remedy = (
        "Too weak to be the label in disguise, but networks may use it: see whether sites or "
        "scanners differ in their share of methylated patients, and report it."
    )
    return Check(NAME, "warning", expected, text, remedy)


def _distinct(
    sources: Mapping[str, Source], table: Mapping[str, Sequence[Value]]
) -> dict[str, int]:
    """Return one property of those of a source that divide the subjects alike; others' number.

    A missing scan, for instance, shows in every property of its file.
    """
    first: dict[tuple[object, ...], str] = {}
    alike: dict[str, int] = {}
    for name, values in table.items():
        is_number = all(isinstance(value, float) for value in values if value is not None)
        present = {value for value in values if value is not None}
        ordered = sorted(present, key=lambda value: (isinstance(value, str), value))
        number = {value: place for place, value in enumerate(ordered)}
        codes = tuple(-1 if value is None else number[value] for value in values)
        same = first.setdefault((sources[name], is_number and len(number) > 2, codes), name)
        alike[same] = alike[same] + 1 if same in alike else 0
    return alike


def _one_per_person(audit: AuditContext) -> tuple[str, ...]:
    person = {s.id: s.person for s in audit.cohort.subjects}
    first = {person[s]: s for s in reversed(audit.splits[0].training)}
    return tuple(s for s in audit.splits[0].training if first[person[s]] == s)


def _table(
    audit: AuditContext, ids: tuple[str, ...]
) -> tuple[dict[str, Source], dict[str, list[Value]]]:
    """Return the properties' sources, and their values in the order of the ids."""
    by_id = {s.id: s for s in audit.cohort.subjects}
    place = {name: float(number) for number, name in enumerate(sorted(by_id))}
    sources: dict[str, Source] = {}
    table: dict[str, list[Value]] = {}
    for row, subject in enumerate(ids):
        order = PlainProperty("place in the order of ids", "file", place[subject])
        for each in (order, *plain_properties(audit, by_id[subject])):
            if each.of_voxels and each.name.partition(":")[0] in audit.planted:
                continue
            sources[each.name] = each.source
            table.setdefault(each.name, [None] * len(ids))[row] = each.value
    if audit.pipeline == "volumes":
        for modality in audit.study.modalities:
            if modality not in audit.planted:
                _add_volumes(audit, modality, ids, sources, table)
    return sources, table


def _add_volumes(
    audit: AuditContext,
    modality: str,
    ids: tuple[str, ...],
    sources: dict[str, Source],
    table: dict[str, list[Value]],
) -> None:
    """Add what can be said of a tumour on the networks' grid, where its place and size show."""
    store = VolumeStore(audit.store, modality)
    for row, subject in enumerate(ids):
        if subject not in store.descriptions:
            continue
        (volume,) = store.load((subject,), store.versions[:1])[0]
        for name, value in _volume_numbers(volume):
            sources[f"{modality}: {name}"] = "biology"
            table.setdefault(f"{modality}: {name}", [None] * len(ids))[row] = value


def _volume_numbers(volume: np.ndarray) -> Iterator[tuple[str, float]]:
    inside = volume[volume != 0].astype(np.float64)
    yield "smallest value in the volume", float(inside.min())
    yield "mean in the volume", float(inside.mean())
    yield "standard deviation in the volume", float(inside.std())
    yield "tumour voxels of the volume", float(inside.size)
    box = tumour_box(volume != 0)
    for axis, side in zip(("depth", "height", "width"), box, strict=True):
        yield f"first {axis} of the tumour", float(side.start)
        yield f"last {axis} of the tumour", float(side.stop - 1)
