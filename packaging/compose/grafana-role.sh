#!/bin/sh
# Run once by the database's image, when the database is made: Grafana's login, which sees the views only.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$GRAFANA_DATABASE_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE heimdall_read NOLOGIN;
CREATE ROLE grafana LOGIN PASSWORD :'password' IN ROLE heimdall_read;
ALTER ROLE grafana SET statement_timeout = '30s';
SQL
