#!/usr/bin/env bash
# From nothing to the model in the package. Every piece goes on where it was stopped: run it again.
#
#   runs/starter.sh [FOLDER]        needs: pip install -e '.[train]', npm
#
# On two processor cores: corpus 1 minute, autoencoder 15 minutes, diffusion about two hours.
set -euo pipefail

work=${1:-starter-run}
threads=${THREADS:-$(nproc)}

# Threads that wait must not burn the core that another process needs, and memory that a step gives back is
# wanted again by the next one.
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

pochade train corpus "$work/corpus"
pochade train autoencoder "$work/corpus" "$work/run" --steps 4000 --threads "$threads"
pochade train text "$work/corpus" "$work/run" --steps 500 --threads "$threads"
pochade train diffusion "$work/corpus" "$work/run" --steps 8600 --threads "$threads"
pochade train decoder "$work/corpus" "$work/run" --steps 4500 --threads "$threads"
pochade train export "$work/corpus" "$work/run" "$work/starter"
pochade draw "a red apple, 3d style" --model "$work/starter" -o "$work/apple.png"
