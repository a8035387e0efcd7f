#!/usr/bin/env bash
# dist.sh PROGRAM CONFIG [CHECKPOINT] GPUS [arguments]: run a program of this folder on GPUS processes.
set -euo pipefail
program=$1
positional=("$2")
shift 2
if [[ ! ${1:-} =~ ^[0-9]+$ ]]; then
    positional+=("${1:?the number of processes is missing}")
    shift
fi
processes=${1:?the number of processes is missing}
shift
python=${PYTHON:-python}
if [[ ${NNODES:-1} == 1 && -z ${PORT:-} ]]; then
    meeting=(--standalone)
else
    meeting=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
exec "$python" -m torch.distributed.run "${meeting[@]}" --nproc_per_node="$processes" \
    "$(dirname "$0")/$program" "${positional[@]}" "$@"
