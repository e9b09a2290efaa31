"""`mgmt-ray search` as a Ray job: on the cluster that it was submitted to."""

import sys

from mgmt_ray.cli import main

if __name__ == "__main__":
    main(["search", *sys.argv[1:], "--address", "auto"])
