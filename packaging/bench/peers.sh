#!/bin/sh
# Builds Telegraf, the peer of the end-to-end benchmark, with only the parts it needs: mqtt_consumer, JSON, postgresql.
# Built once, in a module of its own, because its replace directives forbid `go install`.
set -eu
cache=${HEIMDALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/heimdall}
version=v1.37.2
mkdir -p "$cache/bin"
[ "$(cat "$cache/bin/telegraf.version" 2>/dev/null)" = "$version" ] && [ -x "$cache/bin/telegraf" ] && exit 0

echo "building Telegraf $version (once, some minutes)"
export GOFLAGS=-mod=mod GOWORK=off
source=$(go mod download -json "github.com/influxdata/telegraf@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cp -r "$source/." "$work"
chmod -R u+w "$work"
cd "$work"
CGO_ENABLED=0 nice -n 10 go build -trimpath -p 2 -tags custom,inputs.mqtt_consumer,outputs.postgresql,parsers.json \
  -ldflags "-s -w -X github.com/influxdata/telegraf/internal.Version=${version#v}" -o "$cache/bin/telegraf" ./cmd/telegraf
echo "$version" >"$cache/bin/telegraf.version"
