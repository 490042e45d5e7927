#!/usr/bin/env bash
# Makes the embedded model: corpus, base, adapters, references, classifier. Restartable: a stage that has left its result
# is not run again (delete the result to repeat it), and an interrupted training goes on from its last checkpoint.
#
#   bash training/embedded.sh STAGE...          stages: corpus base ablation adapters full classifier
#
#   TEXT, SPEECH   folders of texts and recorded clips (as training/data/embedded.py takes them)   [required by corpus]
#   EXTRA, WORDS   more recorded clips, word lists                                                  [.carry/speech .carry/words]
#   WORK           where everything goes                                                            [runs/embedded]
#   JOBS           processes side by side                                                           [number of cores]
#   SCALE          size of the corpus; 1 is about 140,000 clips                                     [1]
#   MINUTES_BASE, MINUTES_ADAPTER   wall-clock budgets on this machine                              [240, 20]
#
# On one H200 with 16 cores: SCALE=1 MINUTES_BASE=6.5 MINUTES_ADAPTER=1.5 JOBS=8. The defaults are for two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
WORK=${WORK:-runs/embedded}
CORPUS=${CORPUS:-$WORK/corpus}
STORE=${STORE:-$WORK/store}
JOBS=${JOBS:-$(nproc)}
SCALE=${SCALE:-1}
MINUTES_BASE=${MINUTES_BASE:-240}
MINUTES_ADAPTER=${MINUTES_ADAPTER:-20}
PYTHON=${PYTHON:-python}
BASE=${BASE:-$WORK/base}
LANGUAGES="hi it pa te en"
mkdir -p "$WORK"

corpus() {
  [ -f "$CORPUS/.complete" ] && return
  "$PYTHON" -m training.data.embedded --out "$CORPUS" --text "$TEXT" --speech "$SPEECH" \
    ${EXTRA:+--extra "$EXTRA"} ${WORDS:+--words "$WORDS"} --scale "$SCALE" --jobs "$JOBS"
  touch "$CORPUS/.complete"
}

base() {
  [ -f "$BASE/model.safetensors" ] && return
  "$PYTHON" boli.py train base training/recipes/embedded/base.yaml run.root="$WORK/runs" run.resume_latest=true \
    data.train="[$CORPUS/base_train.jsonl]" data.valid="[$CORPUS/base_dev.jsonl]" learn.max_minutes="$MINUTES_BASE" | tee "$WORK/base.log"
  cp -r "$(tail -n 1 "$WORK/base.log")/model" "$BASE"
}

# one adapter: LANGUAGE RANK VARIANT [key=value ...]; its run's log lies beside its marker in $WORK/done
adapter() {
  local language=$1 rank=$2 variant=$3; shift 3
  local name="$language-r$rank-$variant"
  mkdir -p "$WORK/done"
  [ -f "$WORK/done/$name" ] && return
  local human="$CORPUS/human_${language}_train.jsonl" ratios="{${language}_train: 0.7, human_${language}_train: 0.3}"
  "$PYTHON" boli.py train adapter training/recipes/embedded/adapter.yaml run.root="$WORK/runs" run.name="$name" run.resume_latest=true \
    base.name="$BASE" base.publish_as=boli-embedded data.train="[$CORPUS/${language}_train.jsonl, $human]" plan.ratios="$ratios" \
    data.valid="[$CORPUS/${language}_dev.jsonl, $CORPUS/human_${language}_dev.jsonl]" \
    data.test="[$CORPUS/${language}_test.jsonl, $CORPUS/human_${language}_test.jsonl]" \
    adapter.language="$language" adapter.rank="$rank" adapter.variant="$variant" fit.max_minutes="$MINUTES_ADAPTER" \
    publish.store="$STORE" "$@" > "$WORK/done/$name.log" 2>&1 && touch "$WORK/done/$name" || { echo "$name failed: $WORK/done/$name.log" >&2; return 1; }
  tail -n 3 "$WORK/done/$name.log" | cut -c1-200
}

# reads argument lists of `adapter` and runs JOBS of them side by side
spread() { xargs -P "$JOBS" -L 1 bash "$0" adapter; }

ablation() {   # which sites pay at this size, on one language
  for sites in '[q_proj,v_proj]' '[fc1,fc2]' '[q_proj,k_proj,v_proj,out_proj,fc1,fc2]'; do
    echo "te 16 sites-$(echo "$sites" | tr -cd 'a-z0-9' | cut -c1-12) adapter.targets=$sites publish.store="
  done | spread
}

adapters() {
  { for language in $LANGUAGES; do
      for rank in 64 32 16 8; do echo "$language $rank default"; done
      echo "$language 8 above-tap adapter.layers=above_tap"
      echo "$language 8 seed-1 run.seed=1"
    done; } | spread
}

full() {       # the reference that an adapter is measured against
  for language in $LANGUAGES; do echo "$language 1 full adapter.method=full fit.learning_rate=3e-4 publish.store="; done | spread
}

classifier() { "$PYTHON" boli.py train classifier training/recipes/embedded/classifier.yaml run.root="$WORK/runs" base.name="$BASE" \
  data.train="[$CORPUS/lid_train.jsonl, $CORPUS/switch_train.jsonl]" data.valid="[$CORPUS/lid_dev.jsonl]" data.test="[$CORPUS/lid_test.jsonl]" "$@"; }

if [ "${1:-}" = adapter ]; then "$@"; else for stage in "$@"; do "$stage"; done; fi
