#!/bin/sh
# All that a GPU has to show, in at most eight minutes: benchmarks/on_a_gpu.sh [--dry-run]
cd "$(dirname "$0")/.." || exit 2
exec "${PYTHON:-python}" -m benchmarks.on_a_gpu "$@"
