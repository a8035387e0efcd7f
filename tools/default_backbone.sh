#!/usr/bin/env bash
# bash tools/default_backbone.sh DATA OUT [FIELD=VALUE ...]
# Makes the weights of the default backbone from a folder of public imagery: packs what may be used
# unlabelled into OUT/store, and that into OUT/store.tgz, under 64 MiB, so that it travels to a
# machine with a GPU; then pre-trains config/Pretraining/CGEarthEye-Tiny-98.py on it.
# From a store.tgz that travelled: bash tools/default_backbone.sh OUT/store.tgz OUT
set -euo pipefail
data=$1 out=$2
shift 2
here=$(dirname "$0")
python=${PYTHON:-python}
eye() { "$python" -m cgeartheye "$@"; }
pack() { eye pretrain pack "$@" --out "$out/store" --workers 0; }

mkdir -p "$out"
if [[ -f $data ]]; then
    tar -xzf "$data" -C "$out"
else
    # The 8,000 images of AID's larger part; each a place of its own.
    {
        echo path,place,season
        awk -v root="$(realpath "$data/AID-150")" '{print root "/" $1 ",AID/" $1 ",0"}' \
            "$data/AID-150/train_80per.txt"
    } >"$out/aid.csv"
    pack "$out/aid.csv"
    pack "$data/NAIP-trees/places.csv" --quality 40
    pack "$data/NAIP-3" --chip 256 --quality 60
    pack "$data/Landsat-Pucallpa" --chip 256 --quality 60
    # Two dates of each place.
    {
        echo path,place,season
        for date in 1 2; do
            for image in "$(realpath "$data/LEVIR-CD-20/train")/Image$date"/*; do
                name=$(basename "$image")
                echo "$image,LEVIR/${name%.*},$date"
            done
        done
    } >"$out/levir.csv"
    pack "$out/levir.csv" --max-side 320 --quality 40
    for folder in EPFL-roads/train/Img GSI-roads/train/Img GSI-solar/train/Img \
        NWPU-VHR10/images/trainval; do
        pack "$data/$folder" --max-side 320 --quality 40
    done
    tar -czf "$out/store.tgz" --exclude='*lock' -C "$out" store
fi
options=()
for option in "data.store=$out/store" "$@"; do
    options+=(--set "$option")
done
eye pretrain "$here/../config/Pretraining/CGEarthEye-Tiny-98.py" --work-dir "$out/run" "${options[@]}"
