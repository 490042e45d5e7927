#!/usr/bin/env bash
# Installs SLURM's daemons and commands (Debian, Ubuntu), so that the tests can start a private SLURM of their own.
# Nothing is configured or started. Users of a cluster need none of this: the cluster has SLURM.
set -eu
packages=(slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins)

if command -v slurmctld >/dev/null && command -v munged >/dev/null || [ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/munged ]; then
  echo "slurm/install.sh: SLURM is installed already"
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "slurm/install.sh: there is no apt-get here; install SLURM and munge by your system's own means" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "slurm/install.sh: only root may install packages; run: sudo bash slurm/install.sh" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# the packages would start daemons for the whole machine; a policy file that says no is Debian's way to prevent it
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null 2>&1 || {
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}
echo "slurm/install.sh: installed ${packages[*]}"
