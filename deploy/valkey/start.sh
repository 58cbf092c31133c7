#!/bin/sh
# The password goes in by standard input: arguments can be read by every user of the host.
set -eu
exec valkey-server /etc/valkey/valkey.conf - <<CONFIG
requirepass ${VALKEY_PASSWORD}
CONFIG
