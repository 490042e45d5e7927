#!/bin/sh
# Packs espeak-ng for a machine without network (about 5 MB):
#
#   sh training/carry_debs.sh [FOLDER]                                   here: fills FOLDER (.carry/debs)
#   for f in .carry/debs/*.deb; do dpkg -x "$f" /opt/espeak; done        there
#   cp .carry/debs/libpcaudio.so.0 /opt/espeak/
#   BOLI_ESPEAK_ROOT=/opt/espeak python -m training.data.embedded ...
#
# Unpack into a folder of their own rather than into /: the packages may be of another release than the machine's.
# libespeak-ng wants libpcaudio, which plays sound and needs the libraries of a sound server and of X11. Nothing is
# played here, so a library of that name without them takes its place.
set -eu
folder=${1:-.carry/debs}
mkdir -p "$folder"
cd "$folder"
rm -f ./*.deb
apt-get download -q libespeak-ng1 espeak-ng-data libsonic0
cc -shared -fPIC -Wl,-soname,libpcaudio.so.0 -o libpcaudio.so.0 -x c - <<'SOURCE'
void *create_audio_device_object(const char *device, const char *name, const char *use) { return 0; }
int audio_object_open(void *object, int format, unsigned rate, unsigned char channels) { return -1; }
void audio_object_close(void *object) {}
void audio_object_destroy(void *object) {}
int audio_object_write(void *object, const void *data, unsigned long bytes) { return -1; }
int audio_object_drain(void *object) { return -1; }
int audio_object_flush(void *object) { return -1; }
const char *audio_object_strerror(void *object, int error) { return "no sound here"; }
SOURCE
du -ch ./* | tail -n 1
