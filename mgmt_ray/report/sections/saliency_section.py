"""The section of saliency maps, which ``mgmt-ray explain`` draws."""

from __future__ import annotations

from pathlib import Path

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.section import Picture, Section
from mgmt_ray.report.study_results import (
    StudyResults,
    explain_time,
    has_only_slice_networks,
    is_before,
    results_time,
)

PREFIX = "explain_"


def saliency_section(results: StudyResults, figures: FigureFolder) -> Section:
    """Return the section of the saliency maps in the folder of figures, by test subject."""
    anchor, title = "saliency", "Saliency maps"
    if has_only_slice_networks(results):
        reason = "Only networks of volumes have saliency maps, and this study has none."
        return Section(anchor, title, missing=reason)
    by_subject: dict[str, list[Picture]] = {}
    for modality in results.inputs:
        for path in sorted(figures.path.glob(f"{PREFIX}*_{modality}.png")):
            subject = path.stem.removeprefix(PREFIX).removesuffix(f"_{modality}")
            by_subject.setdefault(subject, []).append(_saliency_picture(path, subject, modality))
    if not by_subject:
        reason = "No saliency maps yet: `mgmt-ray explain STUDY` draws them."
        return Section(anchor, title, missing=reason)
    content = {
        "by_subject": dict(sorted(by_subject.items())),
        "old": is_before(explain_time(results), results_time(results)),
    }
    return Section(anchor, title, content)


def _saliency_picture(path: Path, subject: str, modality: str) -> Picture:
    return Picture(
        path,
        f"{subject}, {modality}: slices through the tumour with each network’s saliency map.",
        f"Saliency maps for and against methylation of each network in the {modality} scan of "
        f"subject {subject}.",
    )
