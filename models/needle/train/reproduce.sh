#!/usr/bin/env bash
# Trains the embedded model anew on one GPU (about 20 minutes on an H200) and writes it to the folder
# given, models/needle by default. Needs Node with npm (for the corpus) and Python with PyTorch,
# tokenizers, safetensors and numpy.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
out="${1:-$here/..}"
cd "$here"
[ -f corpus/prose.txt ] || node fetch-prose.mjs
mkdir -p checkpoints
rm -f "$out/tokenizer.json"
python3 train.py --seconds 900 --out "$out"
python3 train.py --seconds 260 --stage sharpen --rate 0.5 --seed 3 --resume "$out/state.safetensors" --out "$out"
mv "$out/state.safetensors" checkpoints/
python3 make_samples.py --model "$out"
