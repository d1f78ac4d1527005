# Many series: order, equality with single calls and between threads, and interrupts.
i=0
while [ $i -lt 40 ]; do
    j=0
    values=
    while [ $j -le $((i * 3)) ]; do
        values="$values,$(((i * 7 + j * j) % 23)).5"
        j=$((j + 1))
    done
    echo "{\"id\":\"s$i\",\"sequence\":[${values#,}]}"
    i=$((i + 1))
done >many.jsonl

ok forecast many.jsonl -n 70 -m "$MODEL" --format jsonl -t 1
lines out 40
err_has '^40 series, 2380 points in '
mv out one
ok forecast many.jsonl -n 70 -m "$MODEL" --format jsonl -t 2 --quiet
same out one
ok forecast many.jsonl -n 70 -m "$MODEL" --format jsonl -t 5 --quiet
same out one
i=0
while IFS= read -r line; do
    case $i in
    0 | 1 | 17 | 39)
        echo "$line" >single.jsonl
        ok forecast single.jsonl -n 70 -m "$MODEL" --format jsonl --quiet
        sed -n "$((i + 1))p" one >expected
        same out expected
        ;;
    esac
    i=$((i + 1))
done <many.jsonl

# An interrupt keeps what is finished: valid, closed, and said so.
head -c 300000 /dev/zero | tr '\0' '\n' | awk '{printf "[1,2,%d,4,3,2,5,4,3,6]\n", NR % 17}' | head -n 20000 >long.jsonl

interrupt() {
    signal=$1
    shift
    what="moezoo $* and SIG$signal"
    rm -rf d
    mkdir d
    : >d/out
    "$PROGRAM" "$@" >d/out 2>err &
    pid=$!
    # Something in the folder besides an empty "out" means that the first batch is being written.
    while kill -0 $pid 2>/dev/null && [ ! -s d/out ] && [ "$(ls -A d)" = out ]; do
        sleep 0.02
    done
    kill -s "$signal" $pid
    wait $pid
    code=$?
    [ $code -eq 1 ] || complain "exit code $code, expected 1"
    lines err 1
    err_has '^moezoo forecast: interrupted: [0-9]+ of 20000 series forecast$'
    written=$(sed -n 's/.*interrupted: \([0-9]*\) of.*/\1/p' err)
}

interrupt INT forecast long.jsonl -n 500 -m "$MODEL" --json
[ "$written" -gt 0 ] || complain "nothing written"
json d/out series "$written"
interrupt TERM forecast long.jsonl -n 500 -m "$MODEL" --format jsonl -o d/answer
lines d/answer "$written"
[ "$(ls d)" = "answer
out" ] || complain "left behind: $(ls d)"
