#!/usr/bin/env bash
# Train on a Slurm cluster.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
#
# Variables: GPUS (default 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5 for each GPU), SRUN_ARGS (more options).
#
#   --max-restarts N   as of dist_train.sh; a lost node needs sbatch --requeue (docs/scale.md)
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
WORK_DIR=$4
shift 4
source "$(dirname "${BASH_SOURCE[0]}")/dev/launch.sh"
launch_slurm "$PARTITION" "$JOB_NAME" train.py "$CONFIG" --work-dir "$WORK_DIR" "$@"
