"""Parts of a fold's training patients, for predictions by networks that did not train on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mgmt_ray.base import MgmtError, stream


def deal_parts(
    training: Sequence[str], person: Mapping[str, str], num_parts: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Deal patients into parts of equal numbers (but for one); a person's subjects stay together.

    Args:
        training: ids of a fold's training subjects.
        person: by id.
        num_parts: how many.
        seed: of the stream "parts".

    Returns:
        Sorted ids by part.

    Raises:
        MgmtError: there are fewer persons than parts.
    """
    persons = sorted({person[subject] for subject in training})
    if len(persons) < num_parts:
        raise MgmtError(
            f"{len(persons)} patients train, too few for {num_parts} parts. Lower parts of the "
            "network of kind slices, or set cross_fitted: false."
        )
    order = stream(seed, "parts").permutation(len(persons))
    part = {persons[who]: place % num_parts for place, who in enumerate(order)}
    return tuple(
        tuple(sorted(s for s in training if part[person[s]] == number))
        for number in range(num_parts)
    )
