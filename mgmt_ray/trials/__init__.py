"""Running trials, from their data to their finished folders; only ``tune`` uses Ray."""

import mgmt_ray.cluster  # noqa: F401  sets Ray's token before ``tune`` imports Ray
