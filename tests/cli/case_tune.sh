# moezoo forecast tune: a model fitted to a file, kept only where it is better; where it goes; bad input.
awk 'BEGIN { print "y"; for (i = 0; i < 120; i++) printf "%.6f\n", 10 + (i % 5) * (i % 5) + i * 0.02 + (i * 7 % 11) / 20 }' >saw.csv
BACKTEST="forecast backtest saw.csv -n 5 --windows 2 --quiet --json"

# less FILE A B: the number at A is smaller than that at B.
less() {
    a=$("$CLI_JSON" "$2" <"$1") && b=$("$CLI_JSON" "$3" <"$1") || complain "$1: nothing at $2 or $3"
    awk -v a="$a" -v b="$b" 'BEGIN { exit !(a < b) }' || complain "$1: $2 is $a, not below $3, $b"
}

# near A B: two numbers differ by less than 1e-4 of themselves.
near() {
    awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d * d < 1e-8 * a * a) }' || complain "$1 is not $2"
}

# An adapter: better on the windows to test, and what is written scores as reported.
ok forecast tune saw.csv -n 5 -m "$MODEL" --windows 2 --steps 80 --batch 8 --lr 0.01 --quiet --json -o adapter
err_empty
json out file saw.csv
json out model tiny
json out horizon 5
json out tuned true
json out method lora
json out rank 8
json out alpha 16
json out windows 2
json out train_values 100
json out planned_steps 80
json out test.before 4
less out test.after.mase test.before.mase
less out validation.after.mase validation.before.mase
same out adapter/report.json
ls adapter >listing
printf '%s\n' adapter_config.json adapter_model.safetensors report.json >expected
same listing expected
before=$("$CLI_JSON" test.before.mase <out)
after=$("$CLI_JSON" test.after.mase <out)
naive=$("$CLI_JSON" test.seasonal_naive.mase <out)
ok $BACKTEST -m "$MODEL"
near "$("$CLI_JSON" summary.tiny.mase <out)" "$before"
near "$("$CLI_JSON" summary.seasonal_naive.mase <out)" "$naive"
ok $BACKTEST -m "$MODEL" --adapter adapter
near "$("$CLI_JSON" summary.tiny.mase <out)" "$after"
ok forecast saw.csv -n 5 -m "$MODEL" --adapter adapter

# The same with one thread: the same adapter.
ok forecast tune saw.csv -n 5 -m "$MODEL" --windows 2 --steps 80 --batch 8 --lr 0.01 -t 1 --quiet -o single
same single/adapter_model.safetensors adapter/adapter_model.safetensors
out_has '^model tiny, horizon 5: trained on 100 values of 1 series$'
out_has '^2 test windows +MASE +sMAPE +MAE +rel\.MASE'
out_has '^before +[0-9.]+'
out_has '^after +[0-9.]+'
out_has '^theta +[0-9.]+'
out_has '^[0-9]+ of 80 steps in .*; adapter of rank 8, [0-9.]+ k parameters; best after step [0-9]+$'
out_has '^tuned: the MASE of the validation windows, which decide, fell by '
out_has '^use it: moezoo forecast saw\.csv -n 5 -m .*tiny --adapter single$'
# Another seed: another one. An earlier tuning may be replaced.
ok forecast tune saw.csv -n 5 -m "$MODEL" --windows 2 --steps 80 --batch 8 --lr 0.01 --seed 1 --quiet -o single
! cmp -s single/adapter_model.safetensors adapter/adapter_model.safetensors || complain 'the seed does not matter'

# On from an adapter; its shape is its own.
ok forecast tune saw.csv -n 5 -m "$MODEL" --adapter adapter --windows 2 --steps 4 --lr 1e-12 --quiet --json -o further
json out rank 8
json out tuned false
near "$("$CLI_JSON" test.before.mase <out)" "$after"
[ ! -e further/adapter_config.json ] || complain 'an adapter that is no better'

# A model with the adapter worked into it.
ok forecast tune saw.csv -n 5 -m "$MODEL" --windows 2 --steps 80 --batch 8 --lr 0.01 --rank 4 --alpha 8 --merge --quiet --json -o merged
json out rank 4
json out merged true
json out tuned true
after=$("$CLI_JSON" test.after.mase <out)
absent merged/adapter_config.json
ok $BACKTEST -m ./merged
near "$("$CLI_JSON" summary.merged.mase <out)" "$after"

# All weights.
ok forecast tune saw.csv -n 5 -m "$MODEL" --windows 2 --steps 80 --batch 8 --lr 0.003 --full --quiet --json -o full
json out method full
json out tuned true
less out test.after.mase test.before.mase
after=$("$CLI_JSON" test.after.mase <out)
ok $BACKTEST -m ./full
near "$("$CLI_JSON" summary.full.mase <out)" "$after"
ok models show full

# Patches with quantiles, in long form with dates, by the same path.
mkdir patches
"$MAKE_CHECKPOINT" "$TESTS/golden/patch-moe/base" patches f32 || complain 'no checkpoint'
awk 'BEGIN { print "item_id,ds,y"; for (s = 0; s < 2; s++) for (i = 0; i < 200; i++)
    printf "s%d,2024-%02d-%02d,%.4f\n", s, 1 + int(i / 28), 1 + i % 28, 20 + 6 * (i % 7 < 2) + s + (i * 7 % 11) / 9 }' >long.csv
ok forecast tune long.csv -n 7 -m patches --steps 60 --batch 8 --lr 0.003 --full --freq D --missing linear --quiet --json -o patchy
json out series 2
json out windows 6
json out tuned true
less out validation.after.mase validation.before.mase
ok forecast long.csv -n 7 -m ./patchy --freq D --level 80

# A hopeless one: the model stays, nothing but a report is written, and what an earlier tuning left goes.
ok forecast tune saw.csv -n 5 -m "$MODEL" --windows 3 --steps 6 --lr 1e-12 --quiet -o single
out_has '^the model stays as it was: the MASE of the validation windows fell by 0 %, with 3 windows$'
out_has '^at least 5\.77 % are needed to be more than luck; only the report was written to single$'
json single/report.json tuned false
json single/report.json best_step 0
ls single >listing
echo report.json >expected
same listing expected

# Some series are too short: trained on, or left out.
cat >many.jsonl <<'END'
{"id":"a","sequence":[1,2,3,4,5,4,3,2,1,2,3,4,5,4,3,2,1,2,3,4]}
{"id":"b","sequence":[1,2,3,4,5,4,3,2,1,2]}
{"id":"c","sequence":[1,2,3]}
END
ok forecast tune many.jsonl -n 3 -m "$MODEL" --steps 2 --quiet -o few
out_has '^model tiny, horizon 3: trained on 24 values of 2 series, 1 of them too short to hold anything out; 1 more left out'
json few/report.json held_out 1
json few/report.json skipped 1

# Interrupted: the best state is scored, and kept or not.
what='moezoo forecast tune and SIGINT'
"$PROGRAM" forecast tune saw.csv -n 5 -m "$MODEL" --steps 1000000 --batch 8 --lr 0.003 --json -o stopped >child.out 2>child.err &
pid=$!
tries=0
while [ ! -e stopped ] && [ $tries -lt 1000 ]; do
    tries=$((tries + 1))
    sleep 0.02
done
fails 'stopped is in use by another training' forecast tune saw.csv -n 5 -m "$MODEL" -o stopped
what='moezoo forecast tune and SIGINT'
kill -s INT $pid
wait $pid || complain "exit code $?"
json stopped/report.json end interrupted
[ -e stopped/report.json ] || complain 'no report'

# Where it must not go.
mkdir taken && echo text >taken/notes
fails 'taken: is not empty and holds no earlier tuning; --force writes there nevertheless' \
    forecast tune saw.csv -n 5 -m "$MODEL" -o taken
ok forecast tune saw.csv -n 5 -m "$MODEL" --steps 2 --quiet --force -o taken
[ -e taken/notes ] && [ -e taken/report.json ] || complain 'taken is not as it should be'
fails 'full: is the folder of the model that is tuned' forecast tune saw.csv -n 5 -m ./full --force -o full
fails 'saw\.csv: is no folder' forecast tune saw.csv -n 5 -m "$MODEL" -o saw.csv

# Bad input: one line, and no folder.
fails 'none\.csv' forecast tune none.csv -n 5 -m "$MODEL" -o new
fails 'saw\.csv: no series is long enough: the longest has 120 values, horizon 60 needs 128 \(8 to train on, 60 to choose by' \
    forecast tune saw.csv -n 60 -m "$MODEL" -o new
printf '%s\n' y 1 2 3 NA 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 >gap.csv
fails 'missing' forecast tune gap.csv -n 2 -m "$MODEL" --missing error -o unused
fails 'no-model' forecast tune saw.csv -n 5 -m no-model -o new
usage 'no FILE given' forecast tune -n 5 -o new
usage '--horizon N is missing' forecast tune saw.csv -o new
usage '--horizon: 0 is outside 1 to' forecast tune saw.csv -n 0 -o new
usage '-o DIR is missing' forecast tune saw.csv -n 5
usage '--rank: 0 is outside 1 to 512' forecast tune saw.csv -n 5 -o new --rank 0
usage '--steps: 0 is outside 1 to' forecast tune saw.csv -n 5 -o new --steps 0
usage '--batch: 0 is outside 1 to' forecast tune saw.csv -n 5 -o new --batch 0
usage '--lr: 0 is no number from 1e-12 to 1' forecast tune saw.csv -n 5 -o new --lr 0
usage '--lr: fast is no number' forecast tune saw.csv -n 5 -o new --lr fast
usage '--alpha: nan is no number' forecast tune saw.csv -n 5 -o new --alpha nan
usage '--minutes: 0 is no number' forecast tune saw.csv -n 5 -o new --minutes 0
usage '--synthetic-share: 1 is no number from 0 to 0\.9' forecast tune saw.csv -n 5 -o new --synthetic-share 1
usage '--full trains all weights' forecast tune saw.csv -n 5 -o new --full --rank 4
usage '--full trains all weights' forecast tune saw.csv -n 5 -o new --full --merge
usage '--adapter goes on with an adapter as it is' forecast tune saw.csv -n 5 -o new --adapter adapter --alpha 3
usage '--normalize none: tuning scales every window' forecast tune saw.csv -n 5 -o new --normalize none
absent new
ok forecast tune --help
out_has 'usage: moezoo forecast tune FILE'
for option in horizon output force windows rank alpha full merge steps minutes lr batch seed synthetic-share json adapter model missing threads; do
    out_has "--$option( |\$)"
done
out_has '^examples:'
