#!/bin/sh
# Installs what the DSP benchmark compares with from Debian (as root): FFTW, liquid-dsp, VOLK, GNU Radio, scipy and a C compiler; and
# builds the peers in C for this processor. A peer whose package is not to be had is left out, and the benchmark says so.
set -eu
cd "$(dirname "$0")"
cache=${HEIMDALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/heimdall}
mkdir -p "$cache/bin"

missing=
has() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
if command -v dpkg-query >/dev/null; then
  for package in gcc libc6-dev libfftw3-dev libliquid-dev gnuradio python3-numpy python3-scipy; do
    has "$package" || missing="$missing $package"
  done
  has libvolk-dev || has libvolk2-dev || missing="$missing libvolk-dev"
fi
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ]; then
    echo "installing$missing"
    apt-get update -qq
    for package in $missing; do
      if [ "$package" = libvolk-dev ] && apt-cache policy libvolk-dev | grep -q 'Candidate: (none)'; then
        package=libvolk2-dev # its name in older releases
      fi
      DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "$package" >/dev/null ||
        echo "$package is not to be had" >&2
    done
  else
    echo "missing packages; the peers that need them are left out. Install them and run again:  sudo apt-get install$missing" >&2
  fi
fi

# build NAME LIBRARIES... makes the peer NAME.c.
build() {
  name=$1
  shift
  cc -O3 -march=native -ffast-math -o "$cache/bin/dsp-$name" "$name.c" "$@" -lm || {
    rm -f "$cache/bin/dsp-$name"
    echo "the peer $name cannot be built here" >&2
  }
}
build fftw -lfftw3f
build volk -lfftw3f -lvolk
build liquid -lliquid
