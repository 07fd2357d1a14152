#!/bin/sh
# Builds what is released into dist/: both programs for every platform, deb and rpm, a bill of materials each, and checksums.
# The same commit gives the same bytes in any folder. The Makefile sets GO, TOOLS, VERSION and PLATFORMS; ONLY="amd64 deb" builds
# no more than those packages.
set -eu
umask 022
export LC_ALL=C TZ=UTC
cd "$(dirname "$0")/../.."
here=packaging/packages
out=${OUT:-$PWD/dist}
only=${ONLY:-}

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
fi
export SOURCE_DATE_EPOCH

# A version that packages can be ordered by: that of the tag, or else the time of the commit.
case $VERSION in
v[0-9]*) PACKAGE_VERSION=$(printf %s "${VERSION#v}" | tr - +) ;;
[0-9]*.*) PACKAGE_VERSION=$VERSION ;;
*) PACKAGE_VERSION="0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S).g$(printf %s "$VERSION" | tr - .)" ;;
esac
export PACKAGE_VERSION

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$out"

# build PROGRAM OS ARCH ARM FILE
build() {
  tags=
  [ "$1" != agent ] || tags=nethttpomithttp2
  GOOS=$2 GOARCH=$3 GOARM=$4 CGO_ENABLED=0 GOFLAGS= "$GO" build -trimpath -tags "$tags" -ldflags "-s -w -X main.version=$VERSION" -o "$5" "./$1"
}

# licences BINARY prints the licence of each module in it.
licences() {
  "$GO" version -m "$1" | awk '$1 == "dep" {print $2 "@" $3}' | sort | while read -r module; do
    folder=$("$GO" mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')
    printf '==== %s\n\n' "$module"
    for file in "$folder"/LICEN[SC]E* "$folder"/COPYING* "$folder"/NOTICE*; do
      [ ! -f "$file" ] || cat "$file"
    done
    printf '\n'
  done
}

# lay PROGRAM BINARY lays out what the package installs.
lay() {
  name=heimdall-$1 root=$stage/root
  rm -rf "$root" "$stage/scripts"
  doc=$root/usr/share/doc/$name
  install -D -m 755 "$2" "$root/usr/bin/$name"
  install -D -m 644 "packaging/service/units/$name.service" "$root/usr/lib/systemd/system/$name.service"
  install -D -m 644 $here/copyright "$doc/copyright"
  install -D -m 644 "configs/$1.yaml" "$doc/examples/$1.yaml"
  install -D -m 644 "$stage/$1.cdx.json" "$doc/sbom.cdx.json"
  gzip -9n <"$stage/$1.licences" >"$doc/third-party-licenses.txt.gz"
  printf '%s (%s) unstable; urgency=medium\n\n  * Built from %s; CHANGELOG.md of the source tells what changed.\n\n -- %s  %s\n' "$name" "$PACKAGE_VERSION" "$VERSION" \
    'fulgidus <fulgidus@users.noreply.github.com>' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
  mkdir -p "$root/usr/share/man/man1" "$root/usr/share/lintian/overrides"
  gzip -9n <"$here/man/$name.1" >"$root/usr/share/man/man1/$name.1.gz"
  install -m 644 "$here/lintian-overrides" "$root/usr/share/lintian/overrides/$name"
  sed -i "s/@PROGRAM@/$name/" "$root/usr/share/lintian/overrides/$name"
  next='sudo heimdall-collector init'
  if [ "$1" = agent ]; then
    next='sudo heimdall-agent setup'
    install -D -m 644 $here/70-heimdall-agent.rules "$root/usr/lib/udev/rules.d/70-heimdall-agent.rules"
    install -D -m 644 -t "$root/usr/share/$name" packaging/service/units/usb.conf packaging/service/units/sound.conf
  fi
  mkdir "$stage/scripts"
  for script in postinst prerm postrm; do
    sed "s|@PROGRAM@|$name|; s|@CONFIG@|/etc/heimdall/$1.yaml|; s|@NEXT@|$next|" "$here/scripts/$script" >"$stage/scripts/$script"
  done
  chmod -R u=rwX,go=rX "$root"
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# pack PROGRAM ARCH PACKAGER makes a package of what is laid out.
pack() {
  export PROGRAM=heimdall-$1 ARCH=$2
  case $1 in
  agent) RECOMMENDS=rtl-sdr SUMMARY='Hears what is on air beside a radio receiver and delivers it' ;;
  collector) RECOMMENDS=mosquitto SUMMARY='Gathers what a network of radio stations hears' ;;
  esac
  export RECOMMENDS SUMMARY
  export DESCRIPTION="$SUMMARY
Heimdall is the open system with which a network of radio stations hears
a signal together, stores what each one heard, and records the same
stretch of time on request."
  (cd "$stage" && "$TOOLS/nfpm" package --config nfpm.yaml --packager "$3" --target "$out/") | grep -v '^using' || true
}

cp $here/nfpm.yaml "$stage/nfpm.yaml"
for program in agent collector; do
  build $program linux amd64 '' "$stage/$program.amd64"
  "$TOOLS/cyclonedx-gomod" bin -json -noserial -notimestamp -version "$VERSION" -output "$stage/$program.cdx.json" "$stage/$program.amd64" 2>/dev/null
  licences "$stage/$program.amd64" >"$stage/$program.licences"
done

# Debian's armhf is ARMv7, Raspberry Pi OS's is ARMv6: ARMv6 runs on both.
for target in amd64/deb amd64/rpm arm64/deb arm64/rpm arm6/deb arm7/rpm; do
  arch=${target%/*} packager=${target#*/}
  [ -z "$only" ] || [ "$only" = "$arch $packager" ] || continue
  case $arch in arm[67]) goarch=arm arm=${arch#arm} ;; *) goarch=$arch arm= ;; esac
  for program in agent collector; do
    build $program linux $goarch "$arm" "$stage/$program.$arch"
    lay $program "$stage/$program.$arch"
    pack $program $arch $packager
  done
done
[ -z "$only" ] || exit 0

for platform in $PLATFORMS; do
  os=${platform%%/*} arch=${platform#*/} arm=
  case $arch in arm/*) arm=${arch#arm/} arch=arm ;; esac
  extension=
  [ "$os" != windows ] || extension=.exe
  for program in agent collector; do
    build $program "$os" "$arch" "$arm" "$out/heimdall-$program-$os-$arch${arm:+v$arm}$extension"
  done
done
for program in agent collector; do
  cp "$stage/$program.cdx.json" "$out/heimdall-$program.cdx.json"
done
cd "$out"
sha256sum heimdall-* >SHA256SUMS
