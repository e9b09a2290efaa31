"""One trial from its data to its finished folder; ``tune`` alone speaks to Ray Tune and Train."""

import mgmt_ray.cluster  # noqa: F401  sets Ray's token before ``tune`` imports Ray
