# Sourced by dist_*.sh and slurm_*.sh; run by srun on each node of slurm_*.sh, as
# launch.sh TOOL [arguments of the tool], where Slurm's variables take the place of ours.

# Start $NUMBER processes of a tool with torchrun (launch.py): launch TOOL [arguments of the tool].
# Several machines meet at $MASTER_ADDR:$MASTER_PORT, and meet again there after one was lost.
launch() {
    local tools root python tool=$1 port=${MASTER_PORT:-${PORT:-}}
    shift
    tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    root=$(dirname "$tools")
    python=${PYTHON:-$(command -v python || command -v python3)}
    local rendezvous=(--standalone) # one machine: any free port
    if [ "${NNODES:-1}" != 1 ]; then
        local address=${MASTER_ADDR:?the address of the first machine, the same on all}
        local own=${LOCAL_ADDR:-} is_host=0
        [ "${NODE_RANK:?the number of this machine: 0, 1, ...}" != 0 ] || is_host=1
        [ $is_host = 0 ] && [ "$address" != 127.0.0.1 ] || own=${own:-$address}
        rendezvous=(
            --nnodes="$NNODES"
            --rdzv-backend=c10d
            --rdzv-endpoint="$address:${port:-29500}"
            --rdzv-id="${SLURM_JOB_ID:-mmpanoptic}"
            --rdzv-conf="is_host=$is_host,join_timeout=${JOIN_TIMEOUT:-600},read_timeout=${JOIN_TIMEOUT:-600}"
            ${own:+--local-addr="$own"}
        )
    elif [ -n "$port" ]; then
        rendezvous=(--master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port")
    fi
    PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$tools/dev/launch.py" -- \
        "${rendezvous[@]}" --nproc_per_node="$NUMBER" "$tools/$tool" "$@" --launcher pytorch
}

# Start a tool on a Slurm cluster, torchrun once a node: launch_slurm PARTITION JOB_NAME TOOL
# [arguments of the tool].
launch_slurm() {
    local gpus=${GPUS:-8} partition=$1 job_name=$2
    shift 2
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))} more=()
    if [ $((gpus % per_node)) != 0 ]; then
        echo "error: GPUS=$gpus is no multiple of GPUS_PER_NODE=$per_node" >&2
        exit 2
    fi
    read -r -a more <<<"${SRUN_ARGS:-}" || true
    NUMBER=$per_node exec srun \
        --partition="$partition" \
        --job-name="$job_name" \
        --gres="gpu:$per_node" \
        --nodes="$((gpus / per_node))" \
        --ntasks-per-node=1 \
        --cpus-per-task="$((per_node * ${CPUS_PER_TASK:-5}))" \
        --kill-on-bad-exit=1 \
        --export=ALL \
        ${more[@]+"${more[@]}"} \
        bash "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/launch.sh" "$@"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    NNODES=$SLURM_NNODES NODE_RANK=$SLURM_NODEID LOCAL_ADDR=${SLURMD_NODENAME:-}
    MASTER_ADDR=$(scontrol show hostnames "${SLURM_STEP_NODELIST:-$SLURM_JOB_NODELIST}")
    MASTER_ADDR=${MASTER_ADDR%%$'\n'*} # the first line; head would break the pipe
    MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))} # jobs that share a node
    launch "$@"
fi
