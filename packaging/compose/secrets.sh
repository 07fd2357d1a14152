#!/bin/sh
# Writes .env with new passwords, and which object store runs: sh secrets.sh [minio|garage]. An .env that is there stays.
set -eu
cd "$(dirname "$0")"
umask 077
if [ -e .env ]; then
  echo ".env is there already: it stays" >&2
  exit 0
fi
store=${1:-minio}
case $store in
minio | garage) ;;
*)
  echo "$store: want minio or garage" >&2
  exit 2
  ;;
esac
secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
cat >.env <<EOF
COMPOSE_PROFILES=$store
DATABASE_PASSWORD=$(secret 16)
GRAFANA_DATABASE_PASSWORD=$(secret 16)
GRAFANA_PASSWORD=$(secret 8)
BROKER_PASSWORD=$(secret 16)
OBJECTS_KEY=GK$(secret 12)
OBJECTS_SECRET=$(secret 32)
GARAGE_RPC_SECRET=$(secret 32)
EOF
echo "wrote .env; Grafana's administrator is admin, $(grep GRAFANA_PASSWORD .env)"
