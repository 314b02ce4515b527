#!/bin/bash
# Three mixing ratios, and in each three noise schedules per modality: `bash study.sh DATA_FOLDER OUT [SEEDS]`.
set -euo pipefail
data=$1 out=$2 seeds=${3:-0}
variants=()
for ratio in "default 0.3 0.18 0.24 0.14 0.14" "text 0.5 0.13 0.17 0.1 0.1" "even 0.333 0.143 0.19 0.167 0.167"; do
    read -r name weights <<<"$ratio"
    read -ra each <<<"$weights"
    sources=(text t2i i2t t2s s2t)
    mixture=""
    for i in "${!sources[@]}"; do mixture+=" data.sources.${sources[i]}.weight=${each[i]}"; done
    variants+=(--variant "$name-linear:$mixture")
    for modality in text image audio; do
        variants+=(--variant "$name-$modality-cosine:$mixture objective.schedules.$modality={kind: cosine}")
        variants+=(--variant "$name-$modality-polynomial:$mixture objective.schedules.$modality={kind: polynomial, power: 2}")
    done
done
OMP_NUM_THREADS=1 triptych sweep trimodal_demo --out "$out" --processes 2 "${variants[@]}" --grid "fit.seed=$seeds" \
    --set "data.folder=$data" --set fit.total_tokens=750000 \
    --set fit.checkpoint.every_tokens=250000 --set fit.checkpoint.keep_last=3
OMP_NUM_THREADS=1 python -m triptych.launch.sweep.held_out "$out"
