"""Run both studies and replace the kept files: ``python -m tests.golden.write`` in the root."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, as for the tests

from tests.golden.studies import COHORTS, kept_files, run_study, write_expected

if __name__ == "__main__":
    for name in COHORTS:
        with tempfile.TemporaryDirectory() as folder:
            write_expected(name, kept_files(run_study(name, Path(folder))))
