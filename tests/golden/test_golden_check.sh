#!/bin/sh
# What golden_check says of damaged folders. usage: test_golden_check.sh GOLDEN_CHECK FOLDER_OF_CASES
set -u
export LC_ALL=C
check=$1
cases=$2
work=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
failed=0

# Puts a fresh copy of the case `dense` at $work/case.
fresh() {
    rm -rf "$work/case"
    mkdir "$work/case"
    cp "$cases/dense/"* "$work/case"
    chmod -R u+w "$work/case"
}

# Overwrites the last float of io.safetensors, which is one of s5.layers.2.v_cache.
set_last_float() {
    io="$work/case/io.safetensors"
    size=$(wc -c <"$io")
    printf "$1" | dd of="$io" bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
}

# Replaces text in a file of the case.
edit() {
    sed "$2" "$work/case/$1" >"$work/edited"
    cp "$work/edited" "$work/case/$1"
}

# golden_check must fail with status 1 and print every one of the texts.
expect() {
    what=$1
    shift
    "$check" "$work/case" >"$work/out" 2>&1
    status=$?
    if [ $status -ne 1 ]; then
        echo "$what: exit status $status, expected 1"
        failed=1
    fi
    for text in "$@"; do
        if ! grep -qF "$text" "$work/out"; then
            echo "$what: does not print \"$text\" but:"
            cat "$work/out"
            failed=1
        fi
    done
}

fresh
set_last_float '\000\000\200\077'
expect 'an altered tensor' 'DIFFERS s5.layers.2.v_cache' 'max abs' 'relative L2' \
    'first s5.layers.2.v_cache'
fresh
set_last_float '\000\000\300\177'
expect 'NaN in an expected tensor' 'DIFFERS s5.layers.2.v_cache' '1 not finite'
fresh
set_last_float '\000\000\200\177'
expect 'infinity in an expected tensor' 'DIFFERS s5.layers.2.v_cache' '1 not finite'
fresh
edit io.safetensors 's/"shape":\[1,1,5,14\]/"shape":[1,5,1,14]/'
expect 'a cache of another shape' 'k_cache' 'has shape [1, 5, 1, 14], which does not fit the input'
fresh
edit golden.json 's/"s5\.embed"/"s5.nosuch"/'
expect 'a tensor that is not there' 's5.nosuch' 'missing from io.safetensors'
fresh
edit golden.json 's/time-moe/time-mow/'
expect 'another family' 'which has no checker'
fresh
rm "$work/case/golden.json"
expect 'no golden.json' 'no golden.json in it'
fresh
printf '{"family": "time-moe", "case": "dense", "cases": {"s5": {}}}' >"$work/case/golden.json"
expect 'a case without tensors' 'golden.json names no tensors of "s5."'
exit $failed
