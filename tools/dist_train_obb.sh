#!/usr/bin/env bash
# bash tools/dist_train_obb.sh CONFIG GPUS [arguments of train_obb.py]
# Several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT, as torchrun takes them.
exec "$(dirname "$0")/dist.sh" train_obb.py "$@"
