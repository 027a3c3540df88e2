#!/bin/sh
# A subscriber with redis-cli (or valkey-cli): ./subscribe.sh 127.0.0.1 6379 linewatch:plant-a:line-1:events
# The password comes from the environment, never from the command line: REDISCLI_AUTH=...
set -eu
cli=$(command -v redis-cli || command -v valkey-cli)
last=${4:-0}
"$cli" -h "$1" -p "$2" XREAD COUNT 100 BLOCK 1000 STREAMS "$3" "$last"
