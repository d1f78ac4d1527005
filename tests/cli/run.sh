#!/bin/sh
# Runs one case file: run.sh MOEZOO CLI_JSON MAKE_CHECKPOINT TESTS_DIR CASE.sh
#
# A case file is a list of calls of the functions below. It runs in an empty folder of its own, which is also $HOME, with
# MODEL set to a small model's folder. Each `ok`, `fails` and `usage` starts the program once, with $INPUT (default:
# nothing) as standard input, and leaves its answer in the file "out" and its messages in "err".

PROGRAM=$1
CLI_JSON=$2
MAKE_CHECKPOINT=$3
TESTS=$4
CASE=$5
MODEL=$TESTS/golden/time-moe/tiny
INPUT=/dev/null
failures=0
what=

work=$(mktemp -d "${TMPDIR:-/tmp}/moezoo-cli.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
HOME=$work
export HOME
unset XDG_DATA_HOME

complain() {
    echo "FAILED: $what: $*"
    failures=$((failures + 1))
}

# start EXIT ARGUMENT...: the program, and its exit code compared.
start() {
    expected=$1
    shift
    what="moezoo $*"
    "$PROGRAM" "$@" <"$INPUT" >out 2>err
    code=$?
    if [ "$code" -ne "$expected" ]; then
        complain "exit code $code, expected $expected"
        cat err
    fi
}

# ok ARGUMENT...: it succeeds.
ok() {
    start 0 "$@"
}

# part ARGUMENT...: it fails, but has an answer.
part() {
    start 1 "$@"
    [ -s out ] || complain "no answer"
}

one_line() {
    [ -s out ] && complain "an answer on standard output: $(head -c 200 out)"
    [ "$(wc -l <err)" -eq 1 ] || complain "standard error has $(wc -l <err) lines, expected 1: $(cat err)"
    head -c 7 err | grep -q '^moezoo' || complain "the message does not begin with the program's name: $(cat err)"
    err_has "$1"
}

# fails PATTERN ARGUMENT...: exit code 1, no answer, one line that matches.
fails() {
    pattern=$1
    shift
    start 1 "$@"
    one_line "$pattern"
}

# usage PATTERN ARGUMENT...: the same with exit code 2.
usage() {
    pattern=$1
    shift
    start 2 "$@"
    one_line "$pattern"
}

out_has() {
    grep -qE -e "$1" out || complain "the answer lacks \"$1\": $(head -c 400 out)"
}

out_lacks() {
    ! grep -qE -e "$1" out || complain "the answer has \"$1\""
}

err_has() {
    grep -qE -e "$1" err || complain "standard error lacks \"$1\": $(cat err)"
}

err_empty() {
    [ ! -s err ] || complain "standard error is not empty: $(cat err)"
}

# json FILE PATH VALUE: FILE is one JSON value, and what lies at PATH in it prints as VALUE.
json() {
    actual=$("$CLI_JSON" "$2" <"$1") || complain "$1: no valid JSON, or nothing at $2: $(head -c 400 "$1")"
    [ "$actual" = "$3" ] || complain "$1: $2 is $actual, expected $3"
}

same() {
    cmp -s "$1" "$2" || complain "$1 and $2 differ: $(diff "$1" "$2" | head -5)"
}

lines() {
    [ "$(wc -l <"$1")" -eq "$2" ] || complain "$1 has $(wc -l <"$1") lines, expected $2"
}

absent() {
    [ ! -e "$1" ] || complain "$1 exists"
}

. "$CASE"

if [ "$failures" -gt 0 ]; then
    echo "$failures failed"
    exit 1
fi
