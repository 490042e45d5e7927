#!/usr/bin/env bash
# Installs what some tests need from the system (espeak-ng, flite, festival, SLURM's daemons) where it may: as root on a Debian-like
# system. Elsewhere it says what is missing; the tests that need it are then skipped with the reason.
set -u
cd "$(dirname "$0")/.."
if ! command -v espeak-ng >/dev/null; then
  { apt-get update -q && apt-get install -y -q --no-install-recommends espeak-ng; } >/dev/null 2>&1 \
    || echo "tests: espeak-ng could not be installed; tests of synthetic speech will be skipped" >&2
fi
if ! command -v flite >/dev/null || ! dpkg -s festvox-kallpc16k festvox-hi-nsk festival-hi >/dev/null 2>&1; then
  apt-get install -y -q --no-install-recommends flite festival festival-hi festlex-cmu festlex-poslex festvox-kallpc16k festvox-hi-nsk >/dev/null 2>&1 \
    || echo "tests: flite and festival could not be installed; tests of their voices will be skipped" >&2
fi
bash slurm/install.sh || echo "tests: SLURM could not be installed; tests on a cluster will be skipped" >&2
exit 0
