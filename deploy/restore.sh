#!/bin/sh
# Puts a backup, read from standard input, into an empty database: all of it, or nothing.
#
#   PGHOST=db.internal PGPASSWORD=… deploy/restore.sh < purser.dump
#   docker compose exec -T postgres purser-restore < purser.dump
#
# Afterwards `purser migrate`, then `purser audit`; see deploy/runbook.md. Needs psql and pg_restore, and is told the
# server by their variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE).
set -eu
export PGUSER="${PGUSER:-purser}" PGDATABASE="${PGDATABASE:-purser}"
here=$(dirname "$(readlink -f "$0")")

ask() { psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"; }

there=$(ask --command="select count(*) from pg_namespace where nspname in ('journal', 'verifier', 'ledger', 'notifier')")
if [ "$there" != 0 ]; then
  echo "purser-restore: this database has Purser's data already; restore into an empty one" >&2
  exit 1
fi
ask --file="$here/roles.sql"  # roles belong to the whole server, so no backup of a database has them
exec pg_restore --no-owner --exit-on-error --single-transaction --dbname="$PGDATABASE"
