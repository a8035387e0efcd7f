#!/usr/bin/env bash
# bash tools/dist_test_hbb.sh CONFIG CHECKPOINT GPUS [arguments of test_hbb.py]
# Without a checkpoint, that of the config's run directory: bash tools/dist_test_hbb.sh CONFIG GPUS
exec "$(dirname "$0")/dist.sh" test_hbb.py "$@"
