#!/usr/bin/env bash
# Installs what some tests need from the system (espeak-ng, SLURM's daemons) where it may: as root on a Debian-like
# system. Elsewhere it says what is missing; the tests that need it are then skipped with the reason.
set -u
cd "$(dirname "$0")/.."
for script in training/install_speech.sh slurm/install.sh; do
  [ -f "$script" ] && bash "$script" || echo "tests: $script did not install its packages; its tests will be skipped" >&2
done
exit 0
