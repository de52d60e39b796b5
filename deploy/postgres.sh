#!/bin/sh
# Runs once, when PostgreSQL's volume is empty: makes Purser's login and database.
# The login may make roles (`purser migrate` makes one per service) and is no superuser. The superuser keeps no password,
# so that it can only be used from inside this container: docker compose exec postgres psql -U postgres purser
set -eu
psql -v ON_ERROR_STOP=1 -v password="$POSTGRES_PASSWORD" -U postgres -d postgres <<'SQL'
create role purser login createrole password :'password';
create database purser owner purser;
alter role postgres password null;
SQL
