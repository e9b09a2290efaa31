"""What the report's abbreviations and words mean, for readers from the clinic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.nets.build import VolumeNetworkConfig
from mgmt_ray.report.section import Section, find_all
from mgmt_ray.report.study_results import StudyResults, slice_networks

FOLDER = Path(__file__).parent

TERMS: Mapping[str, str] = {
    "AP": "average precision: area under the precision-recall curve; without skill it is the share "
    "of methylated patients",
    "AUC": "area under the ROC curve: how often a methylated patient gets a higher probability "
    "than an unmethylated one; 0.5 is chance, 1 perfect",
    "best overall": "the ensemble of each network that did best on validation patients",
    "Brier": "mean squared difference of probability and label: 0 is perfect, 0.25 is always "
    "answering 0.5",
    "DeLong": "a test whether two AUCs on the same patients differ",
    "Dice": "overlap of a predicted and a given tumour: 0 none, 1 perfect",
    "DSC": "dynamic susceptibility contrast: perfusion maps such as PH, PSR and ap-rCBV",
    "DTI": "diffusion tensor imaging: maps such as AD, FA, RD and TR",
    "ECE": "expected calibration error: mean distance of probabilities from observed shares",
    "ensemble": "several models, whose probabilities are averaged",
    "external cohort": "patients of another source; finished models only predict them",
    "fold": "a part of the training patients, on which a model trained on the others is checked",
    "forward selection": "the ensemble of the scans that validation added one at a time",
    "Friedman": "a test whether several networks rank the same patients differently",
    "HD95": "95th percentile of the distance between two tumours' surfaces",
    "Holm": "a correction of p-values for the number of tests made",
    "M": "0.6 · SEN + 0.4 · SPE on validation, by which epochs and ensembles are chosen",
    "MGMT": "gene of a DNA repair enzyme; where its promoter is methylated, temozolomide works "
    "better",
    "NPV": "negative predictive value: share of those called unmethylated who are",
    "PPV": "positive predictive value: share of those called methylated who are",
    "SEN": "sensitivity: share of the methylated patients who are called methylated",
    "SPE": "specificity: share of the unmethylated patients who are called unmethylated",
    "Struct": "structural scans: T1, T1GD, T2, FLAIR",
    "T1GD": "T1 with contrast agent",
    "validation": "training patients whose predictions choose a model, which did not train on them",
}


def glossary_section(results: StudyResults, sections: Sequence[Section]) -> Section:
    """Return the terms that these sections use, after the study's own networks."""
    config: TypeAdapter[VolumeNetworkConfig] = TypeAdapter(VolumeNetworkConfig)
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    described = {
        network_label(name): config.validate_python(network).description
        for name, network in networks.items()
        if network and name not in slice_networks(results)
    }
    shown = [section for section in sections if not section.missing]
    texts = [*find_all(str, [section.content for section in shown])]
    texts += [(FOLDER / section.template).read_text(encoding="utf-8") for section in shown]
    words = {*re.findall(r"[\w-]+", " ".join(texts))}
    used = {term: meaning for term, meaning in TERMS.items() if {*term.split()} <= words}
    return Section("glossary", "", {"terms": described | used})
