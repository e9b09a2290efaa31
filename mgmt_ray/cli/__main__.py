"""``python -m mgmt_ray.cli`` is ``mgmt-ray``."""

from mgmt_ray.cli import main

if __name__ == "__main__":
    main()
