#!/usr/bin/env bash
# bash tools/dist_pretrain.sh CONFIG GPUS [arguments of pretrain.py]
# Several nodes: set NNODES, NODE_RANK, MASTER_ADDR and PORT, as torchrun takes them.
exec "$(dirname "$0")/dist.sh" pretrain.py "$@"
