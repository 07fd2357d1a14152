#!/bin/sh
# Installs the servers and tools that the tests run against: from Debian (as root) mosquitto, PostgreSQL, node, rtl_433, strace, promtool (of the package
# prometheus), python3-jinja2 (to render templates as Home Assistant does), jq and python3-paho-mqtt (for the examples of subscribers), systemd,
# lintian and rpm (to judge units and packages) and qemu-user (to run what is compiled for arm64); from npm TimescaleDB as a WASM build,
# Node-RED, a client generator and validators of OpenAPI; MinIO built once by the Go toolchain. What is there already is left alone.
set -eu
cd "$(dirname "$0")"
cache=${HEIMDALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/heimdall}
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
mkdir -p "$cache/bin"

missing=
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
command -v mosquitto_sub >/dev/null || missing="$missing mosquitto-clients"
command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v psql >/dev/null || missing="$missing postgresql-client"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
command -v rtl_433 >/dev/null || missing="$missing rtl-433"
python3 -c 'import jinja2' 2>/dev/null || missing="$missing python3-jinja2"
command -v jq >/dev/null || missing="$missing jq"
/usr/bin/python3 -c 'import paho.mqtt.subscribe' 2>/dev/null || missing="$missing python3-paho-mqtt"
command -v promtool >/dev/null || missing="$missing prometheus"
command -v strace >/dev/null || [ "$(uname)" != Linux ] || missing="$missing strace"
command -v qemu-aarch64-static >/dev/null || [ "$(uname)" != Linux ] || missing="$missing qemu-user-static"
command -v systemd-analyze >/dev/null || [ "$(uname)" != Linux ] || missing="$missing systemd"
command -v lintian >/dev/null || [ "$(uname)" != Linux ] || missing="$missing lintian"
command -v rpm >/dev/null || [ "$(uname)" != Linux ] || missing="$missing rpm"
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing"
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
  else
    echo "missing programs; install them and run again:  sudo apt-get install$missing" >&2
    exit 1
  fi
fi

# packages WHAT FROM NAME installs the npm packages that FROM/package.json pins below the cache, once.
packages() {
  if ! cmp -s "$2/package.json" "$cache/$3/package.json" || [ ! -d "$cache/$3/node_modules" ]; then
    echo "installing $1 from npm"
    mkdir -p "$cache/$3"
    rm -rf "$cache/$3/node_modules"
    cp "$2/package.json" "$cache/$3/package.json"
    npm install --prefix "$cache/$3" --no-audit --no-fund --silent || { rm -f "$cache/$3/package.json"; exit 1; }
  fi
}
packages "TimescaleDB (WASM)" pglite pglite
packages "what makes clients of the API" ../e2e/client client
packages "what judges the API's description" openapi openapi
packages "Node-RED" nodered nodered

if ! command -v minio >/dev/null && [ "$(cat "$cache/bin/minio.version" 2>/dev/null)" != "$minio_version" ]; then
  echo "building MinIO $minio_version (once, some minutes)"
  GOBIN="$cache/bin" GOFLAGS= go install -trimpath -ldflags '-s -w' "github.com/minio/minio@$minio_version"
  echo "$minio_version" >"$cache/bin/minio.version"
fi
