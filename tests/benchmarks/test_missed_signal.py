from __future__ import annotations

from pathlib import Path

from benchmarks.missed_signal import Options, Variation, compare, write_subjects


def test_the_signal_is_one_that_first_order_features_show(tmp_path: Path) -> None:
    variation = Variation(subjects=60, epochs=1, augmented=False)
    options = Options(validation=10, test=40)
    training = write_subjects(variation.subjects, "training", variation, tmp_path)
    held_out = write_subjects(50, "held-out", variation, tmp_path)
    found = compare(variation, training, held_out, options, tmp_path)
    # 160 test subjects give .89; three standard errors at 20 against 20 subjects are .15
    assert found["first_order"] > 0.74
    assert len(found["auc"]) == 1
    zoomed = Variation(subjects=12, epochs=1, augmented=False, frame=12, zoom=2, scaling="z")
    again = compare(zoomed, training[:12], held_out[:14], Options(seeds=0, validation=4), tmp_path)
    assert again["median_voxels"] > 8 * 40
