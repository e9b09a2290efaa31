"""Nyúl and Udupa's standardisation written anew in plain Python, to compare the package with.

It shares nothing with ``mgmt_ray.preprocess``. Images are lists of numbers, 0 where not valued.
"""

from __future__ import annotations

from statistics import fmean, pstdev

PERCENTAGES = [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99]


def plain_landmarks(image: list[float]) -> list[float]:
    """Percentiles of what is not 0, interpolated between the two nearest of the sorted values."""
    values = sorted(value for value in image if value != 0)
    landmarks = []
    for percentage in PERCENTAGES:
        place = (len(values) - 1) * percentage / 100
        low = int(place)
        high = min(low + 1, len(values) - 1)
        landmarks.append(values[low] + (place - low) * (values[high] - values[low]))
    return landmarks


def plain_standard(images: list[list[float]]) -> list[float]:
    """The mean over images of landmarks mapped so that the first is 0 and the last is 1."""
    mapped = []
    for image in images:
        landmarks = plain_landmarks(image)
        low, high = landmarks[0], landmarks[-1]
        mapped.append([(landmark - low) / (high - low) for landmark in landmarks])
    return [fmean(of_all) for of_all in zip(*mapped, strict=True)]


def plain_matched(image: list[float], standard: list[float]) -> list[float]:
    """Each value by the line through the two landmarks around it; landmarks all differ."""
    own = plain_landmarks(image)
    matched = []
    for value in image:
        k = 0
        while k < len(own) - 2 and value >= own[k + 1]:
            k += 1
        share = (value - own[k]) / (own[k + 1] - own[k])
        there = standard[k] + share * (standard[k + 1] - standard[k])
        matched.append(there if value != 0 else 0.0)
    return matched


def plain_z_scores(matched: list[float], image: list[float]) -> list[float]:
    """Scores over those voxels whose original is not 0."""
    valued = [new for new, old in zip(matched, image, strict=True) if old != 0]
    mean, deviation = fmean(valued), pstdev(valued)
    pairs = zip(matched, image, strict=True)
    return [(new - mean) / deviation if old != 0 else 0.0 for new, old in pairs]
