#!/bin/sh
# Makes the passwords that deploy/compose.yaml asks for, once, in deploy/compose/secrets; what is there stays.
# `linewatch` is taken from the image; LINEWATCH=.venv/bin/linewatch takes another one.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
case ${LINEWATCH:-} in
*/*) LINEWATCH=$(cd "$(dirname "$LINEWATCH")" && pwd)/$(basename "$LINEWATCH") ;;
esac
mkdir -p "$here/secrets"
cd "$here/secrets"
users() {
    # shellcheck disable=SC2086
    ${LINEWATCH:-docker run --rm -i --user $(id -u) -v $PWD:/secrets -w /secrets linewatch:cpu} \
        users --file users.yaml "$@"
}
password() {
    python3 -c 'import secrets; print(secrets.token_urlsafe(24))' 2>/dev/null ||
        head -c 24 /dev/urandom | base64 | tr '+/' '-_'
}

[ -e grafana.password ] || password >grafana.password
[ -e broker.password ] || password >broker.password
if [ ! -e broker.acl ]; then
    # One password each; Linewatch's own is the first.
    sed -e '/^#/d' -e '/^$/d' "$here/../broker/acl.example" >acl.part
    sed -i "s|>change-me-1|>$(cat broker.password)|" acl.part
    while grep -q '>change-me-' acl.part; do
        sed -i "0,/>change-me-[0-9]*/s||>$(password)|" acl.part
    done
    mv acl.part broker.acl
fi
if [ ! -e users.yaml ]; then
    password >admin.password
    users add admin --role admin <admin.password >/dev/null
    users token prometheus --role viewer 2>/dev/null >metrics.token
fi
# Containers read them as users of their own; nobody else gets past the folder.
chmod 644 ./*
chmod 700 .
echo "deploy/compose/secrets: the page's user is admin, its password is in admin.password"
