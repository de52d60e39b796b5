#!/bin/sh
# Writes a backup of the whole database to standard output, while the system runs: one snapshot, so that every journal
# entry has its postings and every posting its journal entry.
#
#   PGHOST=db.internal PGPASSWORD=… deploy/backup.sh > purser.dump
#   docker compose exec -T postgres purser-backup > purser.dump
#
# Needs PostgreSQL's own pg_dump, of the server's version or newer, and is told the server by its variables (PGHOST,
# PGPORT, PGUSER, PGPASSWORD, PGDATABASE). What it writes holds whatever the database holds: users' ids, receipts.
set -eu
export PGUSER="${PGUSER:-purser}" PGDATABASE="${PGDATABASE:-purser}"
exec pg_dump --format=custom --no-owner
