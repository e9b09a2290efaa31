from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import sys
from mgmt_ray.cluster.progress import log, show_progress

for number in range(3):
    log(f"line {number}")
with show_progress("work") as progress:
    progress(1, 1)
print("finished", file=sys.stderr)
"""


def test_work_goes_on_where_nobody_reads_its_output() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", CODE], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "finished\n")
