#!/bin/sh
# Downloads Debian's packages of recorded prompts and of texts, unpacks them, and makes .carry/speech, .carry/words and
# .carry/reading of them
# (docs/synthesis.md). First: sh training/install_speech.sh
#
#   sh training/carry_speech.sh TEXTS CLIPS [FOLDER]
set -eu
text=$1 speech=$2 folder=${3:-.carry}
packages="asterisk-core-sounds-en asterisk-core-sounds-it asterisk-core-sounds-fr asterisk-core-sounds-en-g722
  asterisk-core-sounds-it-g722 asterisk-core-sounds-fr-g722 asterisk-core-sounds-es-g722 asterisk-core-sounds-ru-g722
  asterisk-prompt-it-menardi-wav asterisk-prompt-fr-armelle asterisk-prompt-es-co klettres-data ktuberling-data
  tuxpaint-stamps-default wordnet-base fortunes fortunes-min fortunes-it fortunes-de fortunes-es libreoffice-help-it
  libreoffice-help-hi libreoffice-l10n-hi libreoffice-l10n-pa-in libreoffice-l10n-te"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
# shellcheck disable=SC2086
(cd "$unpacked" && apt-get download -q $packages && for package in ./*.deb; do dpkg -x "$package" root; done)
rm -rf "$folder/speech" "$folder/words" "$folder/reading"
"${PYTHON:-python}" -m training.data.reading_packages --root "$unpacked/root" --out "$folder/reading"
"${PYTHON:-python}" -m training.data.prompts_packages --root "$unpacked/root" --out "$folder" --text "$text" --speech "$speech"
