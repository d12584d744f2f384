#!/usr/bin/env bash
# Train with several processes: one per GPU, or on CPUs where there is no GPU.
#
#   tools/dist_train.sh CONFIG NUMBER [arguments of tools/train.py]
#
# Several machines: set NNODES, NODE_RANK (0, 1, ...), MASTER_ADDR and MASTER_PORT (29500) on each.
#
#   --max-restarts N   when a process or machine dies, go on from the newest checkpoint, N times at most;
#                      a machine has JOIN_TIMEOUT seconds (600) to come (back)
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG NUMBER_OF_PROCESSES [arguments of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
NUMBER=$2
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/dev/launch.sh"
launch train.py "$CONFIG" "$@"
