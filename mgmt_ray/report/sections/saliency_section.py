"""The section of the pictures of where networks look, as far as they were asked for."""

from __future__ import annotations

from pathlib import Path

from mgmt_ray.report.gather import (
    StudyResults,
    explain_time,
    has_only_slice_networks,
    is_before,
    results_time,
)
from mgmt_ray.report.section import Picture, Section

PREFIX = "explain_"


def explain_section(results: StudyResults, figures: Path) -> Section:
    """Maps of evidence of a few test subjects, which ``mgmt-ray explain`` drew.

    Args:
        results: of the study.
        figures: its folder of figures; nothing in it is changed.
    """
    anchor, title = "explain", "Where the networks look"
    if has_only_slice_networks(results):
        why = "Evidence is shown of networks of volumes alone, and this study has none."
        return Section(anchor, title, missing=why)
    by_subject: dict[str, list[Picture]] = {}
    for modality in results.inputs:
        for path in sorted(figures.glob(f"{PREFIX}*_{modality}.png")):
            subject = path.stem.removeprefix(PREFIX).removesuffix(f"_{modality}")
            by_subject.setdefault(subject, []).append(_saliency_picture(path, subject, modality))
    if not by_subject:
        why = "No pictures of evidence were drawn: `mgmt-ray explain STUDY` draws them."
        return Section(anchor, title, missing=why)
    content = {
        "by_subject": dict(sorted(by_subject.items())),
        "old": is_before(explain_time(results), results_time(results)),
    }
    return Section(anchor, title, content)


def _saliency_picture(path: Path, subject: str, modality: str) -> Picture:
    return Picture(
        path,
        f"{subject}, {modality}: slices through the tumour, and each network’s evidence over them.",
        f"Maps of where the networks find evidence for and against methylation in the {modality} "
        f"scan of subject {subject}.",
    )
