#!/bin/sh
# Runs once, when the volume is empty. The roles are those of local/postgres.py: a superuser for nobody's daily use, an
# owner who migrates, and a login for the processes that is a member of tallyrail_app and nothing more.
set -eu
psql --set ON_ERROR_STOP=1 --no-psqlrc --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" <<'SQL'
\getenv database POSTGRES_DB
\getenv owner_password TALLYRAIL_OWNER_PASSWORD
\getenv login_password TALLYRAIL_LOGIN_PASSWORD
CREATE ROLE tallyrail_app NOLOGIN;
CREATE ROLE tallyrail_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE tallyrail_login LOGIN PASSWORD :'login_password';
GRANT tallyrail_app TO tallyrail_owner, tallyrail_login;
ALTER DATABASE :"database" OWNER TO tallyrail_owner;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO tallyrail_login;
SQL
