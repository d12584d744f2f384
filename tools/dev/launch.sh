# Sourced by dist_*.sh and slurm_*.sh.

# Start $NUMBER processes of a tool with torchrun (launch.py): launch TOOL [arguments of the tool].

launch() {
    local tools root python tool=$1
    shift
    tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    root=$(dirname "$tools")
    python=${PYTHON:-$(command -v python || command -v python3)}
    local rendezvous=(--standalone) # one machine: any free port
    if [ -n "${PORT:-}" ] || [ "${NNODES:-1}" != 1 ]; then
        rendezvous=(
            --nnodes="${NNODES:-1}"
            --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}"
            --master_port="${PORT:-29500}"
        )
    fi
    PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$tools/dev/launch.py" -- \
        "${rendezvous[@]}" --nproc_per_node="$NUMBER" "$tools/$tool" "$@"
}

# Start a tool on a Slurm cluster: launch_slurm PARTITION JOB_NAME TOOL [arguments of the tool].
launch_slurm() {
    local tools gpus=${GPUS:-8} partition=$1 job_name=$2 tool=$3
    shift 3
    tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))} more=()
    read -r -a more <<<"${SRUN_ARGS:-}" || true
    PYTHONPATH="$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH}" exec srun \
        --partition="$partition" \
        --job-name="$job_name" \
        --gres="gpu:$per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${more[@]+"${more[@]}"} \
        "${PYTHON:-python}" -u "$tools/$tool" "$@" --launcher slurm
}
