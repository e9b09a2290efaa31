"""`mgmt-ray prepare` as a Ray job: on the cluster that it was submitted to."""

import sys

from mgmt_ray.cli import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:], "--address", "auto"])
