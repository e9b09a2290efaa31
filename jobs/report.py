"""`mgmt-ray report` as a Ray job."""

import sys

from mgmt_ray.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
