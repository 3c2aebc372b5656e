#!/bin/sh
# The restore_command of a Lifeboat restore, run by PostgreSQL in PGDATA: sh lifeboat_wal/fetch NAME DESTINATION
#
# Exit 0: delivered. Exit 1: not held, and it will not come; PostgreSQL then looks into pg_wal.
# Exit 255: it was to come and does not. PostgreSQL stops with an error at any code above 125, where after a 1 it would
# take the log for ended, and promote a server that lacks what was committed later.

name=$1
destination=$2
here=${LIFEBOAT_WAL:-lifeboat_wal}
tries=${LIFEBOAT_WAL_TRIES:-300}

# A shell that cannot start a program ends by itself, with a code that PostgreSQL would take for the end of the log.
trap 'code=$?; trap - 0; case $code in 0 | 1) exit $code ;; *) exit 255 ;; esac' 0

fail() {
    echo "lifeboat: $1; restore again with --delta, then start the server again" >&2
    exit 255
}

deliver() {
    # A link costs nothing. The file stays: a server that is stopped and started again asks for it again.
    ln -f "$here/$name" "$destination" 2>/dev/null || cp "$here/$name" "$destination" || fail "cannot copy $name"
    exit 0
}

[ -r "$here/list" ] && [ -r "$here/staging" ] || fail "$here is not readable or not complete"
grep -q -x -F -e "$name" "$here/list"
case $? in
0) ;;
1) exit 1 ;;
*) fail "cannot look for $name in $here/list" ;;
esac

seen=
unchanged=0
while :; do
    [ -f "$here/$name" ] && deliver
    state= beat=
    read -r state beat <"$here/staging"
    if [ "$state" != staging ]; then
        # It may have come between the two looks.
        [ -f "$here/$name" ] && deliver
        fail "$name is not there, and staging is over ($state)"
    fi
    if [ "$beat" = "$seen" ]; then
        unchanged=$((unchanged + 1))
        [ "$unchanged" -lt "$tries" ] || fail "$name is not there, and the process that was staging it does not answer"
    else
        seen=$beat
        unchanged=0
    fi
    sleep 0.2 2>/dev/null || sleep 1
done
