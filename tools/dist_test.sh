#!/usr/bin/env bash
# Test with several processes: one per GPU, or on CPUs where there is no GPU.
#
#   tools/dist_test.sh CONFIG CHECKPOINT NUMBER [arguments of tools/test.py]
#
# Several machines: set NNODES, NODE_RANK (0, 1, ...), MASTER_ADDR and MASTER_PORT (29500) on each.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT NUMBER_OF_PROCESSES [arguments of tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
NUMBER=$3
shift 3
source "$(dirname "${BASH_SOURCE[0]}")/dev/launch.sh"
launch test.py "$CONFIG" "$CHECKPOINT" "$@"
