import numpy as np

from mgmt_ray.training.dataset import balanced_rows, volume_set


def test_a_subjects_versions_and_channels_stay_together() -> None:
    first = np.arange(2 * 3 * 8, dtype=np.float16).reshape(2, 3, 2, 2, 2)
    second = first + 100
    data = volume_set([first, second], [1, 0], ["a", "b"], "cpu")
    assert data.subjects == ("a", "a", "a", "b", "b", "b")
    assert data.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert data.volumes.shape == (6, 2, 2, 2, 2)
    assert (data.volumes[4, 0].numpy() == first[1, 1]).all()
    assert (data.volumes[4, 1].numpy() == second[1, 1]).all()


def test_pruning_equalises_whichever_class_is_larger() -> None:
    for methylated in (0.2, 0.8):
        labels = (np.random.default_rng(0).random(101) < methylated).astype(int)
        rows = balanced_rows(labels, np.random.default_rng(1))
        assert labels[rows].sum() == len(rows) / 2 == min(labels.sum(), 101 - labels.sum())
        assert len(set(rows)) == len(rows)


def test_pruning_is_random_but_repeatable() -> None:
    labels = np.array([0] * 50 + [1] * 20)
    draws = [balanced_rows(labels, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
