#!/usr/bin/env bash
# From nothing to the model in the package, in calls of less than ten minutes that resume: run it again after
# whatever stopped it, and it goes on.
#
#   runs/starter.sh [FOLDER]        needs: pip install -e '.[train]', npm
#
#   DEVICE=cuda       where to train                          (cpu)
#   THREADS=1         processor threads                       (all)
#   DIFFUSION=31000   steps of the diffusion model            (31000; the longer, the better)
#   REHEARSE=20       so many steps of every piece instead: whether all of it works
#   LAUNCH='torchrun --nproc-per-node 4 -m pochade'           (pochade): several GPUs
#
# On two processor cores that do nothing else: corpus 4 minutes, autoencoder 50, text 3, diffusion about five
# hours, refining the autoencoder 50. To go on with a piece on another machine:
#   pochade train pack FOLDER/run/diffusion travel/     there: copy travel/ to FOLDER/run/diffusion
set -euo pipefail

work=${1:-starter-run}
run=$work/run
launch=${LAUNCH:-pochade}

# Threads that wait must not burn the core that another process needs, and memory that a step gives back is
# wanted again by the next one.
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

train() { # piece, steps
  local steps=${REHEARSE:-$2}
  until grep -qs "\"step\": $steps\b" "$run/$1/log.jsonl"; do
    $launch train "$1" "$work/corpus" "$run" --steps "$steps" --minutes 8 \
      --device "${DEVICE:-cpu}" --threads "${THREADS:-$(nproc)}"
  done
}

pochade train corpus "$work/corpus"
train crops 4000
train autoencoder 2400
train text 800
train diffusion "${DIFFUSION:-31000}"
train refined 3000
pochade train export "$work/corpus" "$run" "$work/starter"
here=$(dirname "$0")
pochade models quantize "$work/starter" --smoothing 0.5 --prompts "$here/../pochade/evaluation/prompts/sheet.txt" \
  -o "$work/starter/int8.safetensors"
pochade draw "a red apple, 3d style" --model "$work/starter" -o "$work/apple.png"
