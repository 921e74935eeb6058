#!/usr/bin/env bash
# Trains the embedded model anew and puts it into the folder given, models/needle by default; nothing
# there changes before the training is through. Two stages on one GPU (24 minutes on an H200), a third
# on all GPUs of the host: 20 minutes on four H200s, 80 on one, each with 80 GB. Needs Node with npm
# (for the corpus) and Python with PyTorch, tokenizers, safetensors and numpy.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
out="$(realpath -m "${1:-$here/..}")"
new="$here/checkpoints/new"
cd "$here"
[ -f corpus/prose.txt ] || node fetch-prose.mjs
rm -rf "$new"
python3 train.py --seconds 900 --out "$new"
python3 train.py --seconds 500 --stage sharpen --rate 0.5 --seed 3 --resume "$new/state.safetensors" --out "$new"
gpus="$(python3 -c 'import torch; print(torch.cuda.device_count())')"
python3 -m torch.distributed.run --standalone --nproc-per-node "$gpus" train.py \
  --seconds $((4800 / gpus)) --stage stretch --rate 0.5 --seed 5 \
  --resume "$new/state.safetensors" --out "$new"
python3 make_samples.py --model "$new"
mkdir -p "$out"
rm -f "$out"/model-*.safetensors
find "$new" -maxdepth 1 -type f ! -name state.safetensors -exec cp {} "$out" ';'
