#!/usr/bin/env bash
# Trains the embedded model anew on one GPU (about 25 minutes on an H200) and puts it into the folder
# given, models/needle by default; nothing there changes before the training is through. Needs Node
# with npm (for the corpus) and Python with PyTorch, tokenizers, safetensors and numpy.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
out="$(realpath -m "${1:-$here/..}")"
new="$here/checkpoints/new"
cd "$here"
[ -f corpus/prose.txt ] || node fetch-prose.mjs
rm -rf "$new"
python3 train.py --seconds 900 --out "$new"
python3 train.py --seconds 500 --stage sharpen --rate 0.5 --seed 3 --resume "$new/state.safetensors" --out "$new"
python3 make_samples.py --model "$new"
mkdir -p "$out"
rm -f "$out"/model-*.safetensors
find "$new" -maxdepth 1 -type f ! -name state.safetensors -exec cp {} "$out" ';'
