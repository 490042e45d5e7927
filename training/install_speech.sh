#!/bin/sh
# Installs what training.data.embedded and training/carry_debs.sh use, from Debian or Ubuntu. Run as root.
set -eu
apt-get update -q
apt-get install -y -q --no-install-recommends espeak-ng libespeak-ng1 espeak-ng-data \
  aspell aspell-hi aspell-te aspell-pa aspell-ta aspell-mr aspell-bn aspell-gu aspell-kn aspell-ml wamerican witalian wfrench wspanish wngerman \
  festival festival-hi festival-te festlex-cmu festlex-poslex festlex-ifd festvox-hi-nsk festvox-te-nsk festvox-italp16k festvox-itapc16k festvox-kallpc16k festvox-kdlpc16k \
  festvox-us-slt-hts flite fonts-noto-core  # the last one: letters for the pictures of the pages
