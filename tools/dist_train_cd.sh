#!/usr/bin/env bash
# bash tools/dist_train_cd.sh CONFIG GPUS [arguments of train_cd.py]
# Several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT, as torchrun takes them.
exec "$(dirname "$0")/dist.sh" train_cd.py "$@"
