#!/bin/sh
# A subscriber with redis-cli or valkey-cli (6.2 or newer): prints each event's JSON on a line, and acknowledges it.
#
#     REDISCLI_AUTH=PASSWORD ./subscribe.sh HOST PORT linewatch:plant-a:line-1:events GROUP [--once]
#
# The password comes from the environment, never from the command line; so does BROKER_USER. --once ends when nothing is left.
set -eu
[ $# -ge 4 ] || {
    echo "Say which broker, stream and group: subscribe.sh HOST PORT STREAM GROUP [--once]" >&2
    exit 1
}
host=$1 port=$2 stream=$3 group=$4
once=$([ "${5:-}" = --once ] && echo yes || true)
user=${BROKER_USER:-default}
cli=$(command -v redis-cli || command -v valkey-cli) || {
    echo "There is neither redis-cli nor valkey-cli; on Debian: apt-get install redis-tools" >&2
    exit 1
}

ask() { "$cli" -h "$host" -p "$port" --user "$user" --no-auth-warning --raw "$@"; }
# From 0: what was published before the group existed belongs to it too.
begin() { ask XGROUP CREATE "$stream" "$group" 0 MKSTREAM >/dev/null 2>&1 || true; }

begin
from=0 # first what an earlier run was given and did not acknowledge, then (">") what is new
while :; do
    reply=$(ask XREADGROUP GROUP "$group" shell COUNT 1 BLOCK 2000 STREAMS "$stream" "$from" 2>&1) || true
    case $reply in
    "" | "$stream") # nothing
        [ -n "$once" ] && [ "$from" = ">" ] && exit 0
        from=">"
        ;;
    "$stream"*)
        entry=$(printf '%s\n' "$reply" | sed -n 2p)
        case $reply in
        *"
schema
defect/1
"*"
data
"*) printf '%s\n' "$reply" | tail -n 1 ;; # the field `data` stands last; your side effect belongs here
        *) echo "entry $entry of $stream is skipped: no event of schema defect/1" >&2 ;; # or trimmed meanwhile
        esac
        ask XACK "$stream" "$group" "$entry" >/dev/null || from=0 # not acknowledged: it comes again
        ;;
    *NOAUTH* | *WRONGPASS* | *unauthenticated*)
        echo "The broker at $host:$port wants another password: set REDISCLI_AUTH (and BROKER_USER)." >&2
        exit 1
        ;;
    *) # the broker is away, or lost the group with its data
        echo "$reply" >&2
        sleep 1
        begin
        from=0
        ;;
    esac
done
