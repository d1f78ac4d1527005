# Backtests: windows, scores that are known, answers in their forms, bad input.
seq 1 40 | sed '1i y' >line.csv

# A line: naive is off by 1, 2, 3, 4 at origins 33 and 36, drift by nothing.
ok forecast backtest line.csv -n 4 --windows 2 --step 3 --season 1 -m "$MODEL" --json --forecasts
err_has '^1 series, 2 windows in '
json out file line.csv
json out model tiny
json out horizon 4
json out windows 2
json out step 3
json out season 1
json out scored 1
json out failed 0
json out without_mase 0
json out series.0.id y
json out series.0.values 40
json out series.0.windows 2
json out series.0.forecasts 2
json out series.0.forecasts.0.origin 33
json out series.0.forecasts.1.origin 36
json out series.0.forecasts.1.truth.0 37
json out series.0.forecasts.1.truth.3 40
json out series.0.forecasts.0.naive.3 33
json out series.0.scores.naive.mae 2.5
json out series.0.scores.naive.mse 7.5
json out series.0.scores.naive.mase 2.5
json out series.0.scores.drift.mae 0
json out summary 6
json out summary.naive.mae 2.5
json out summary.naive.relative_mase 1
json out summary.drift.relative_mase 0.01

# Four apart: seasonal naive is off by 4, which is also the scale.
ok forecast backtest line.csv -n 4 --season 4 -m "$MODEL" --json --quiet
err_empty
json out step 4
json out series.0.season 4
json out summary.seasonal_naive.mae 4
json out summary.seasonal_naive.mase 1
json out summary.seasonal_naive.rmsse 1
json out summary.naive.mase 0.625
json out summary.naive.relative_mase 0.625

# Only the past counts: what comes after a window changes neither its forecast nor its scale.
{ seq 1 36; echo 900; echo 2; echo 3; echo 4; } | sed '1i y' >wild.csv
ok forecast backtest line.csv -n 4 -m "$MODEL" --json --forecasts --quiet --level 80
"$CLI_JSON" series.0.forecasts.0.tiny.3 <out >expected
ok forecast backtest wild.csv -n 4 -m "$MODEL" --json --forecasts --quiet --level 80
json out series.0.forecasts.0.tiny.3 "$(cat expected)"

# The same window as a forecast of the shortened file.
seq 1 36 | sed '1i y' >short.csv
ok forecast short.csv -n 4 -m "$MODEL" --json --quiet
json out series.0.forecast.3 "$(cat expected)"

# Gaps: those of the future do not count, those at the ends do not take part.
printf '%s\n' y NA 1 2 3 4 NA 6 7 8 9 NA 11 NA >gaps.csv
ok forecast backtest gaps.csv -n 3 --season 1 -m "$MODEL" --json --forecasts --quiet
json out series.0.values 11
json out series.0.forecasts.0.origin 9
json out series.0.forecasts.0.truth.0 9
json out series.0.forecasts.0.truth.1 null
json out series.0.scores.naive.mae 2
json out series.0.scores.naive.mase 2
json out series.0.warnings.0 "1 missing value filled (linear)"

# Bands.
awk 'BEGIN { print "y"; for (i = 0; i < 90; i++) print 100 + i % 7 + (i * i) % 5 }' >long.csv
ok forecast backtest long.csv -n 3 --windows 4 --level 50,90 -m "$MODEL" --quiet --json
json out quantiles 4
json out quantiles.0 0.05
json out summary.naive.pinball null
json out summary.naive.coverage null
"$CLI_JSON" summary.tiny.coverage <out | grep -qE '^(0\.[0-9]+|1(\.0)?)$' || complain "no coverage"
ok forecast backtest long.csv -n 3 --quantiles 0.3 -m "$MODEL" --quiet --json
json out summary.tiny.coverage null
"$CLI_JSON" summary.tiny.wql <out | grep -qE '^[0-9.e-]+$' || complain "no WQL"
ok forecast backtest long.csv -n 3 --level 80 -m "$MODEL" --quiet
out_has '^pinball, SQL and WQL over the levels 0\.1, 0\.9'
ok forecast backtest long.csv -n 3 -m "$MODEL" --quiet --json
json out summary.tiny 9

# Several series: the bad ones do not stop the others.
cat >many.jsonl <<'EOF'
{"id":"a","sequence":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]}
{"id":"flat","sequence":[5,5,5,5,5,5,5,5,5,5,5,5]}
{"id":"short","sequence":[1,2,3,4]}
{"id":"one","sequence":[1]}
{"id":"none","sequence":[null,null]}
EOF
part forecast backtest many.jsonl -n 2 --windows 2 --season 1 -m "$MODEL" --json
err_has 'many.jsonl: 3 of 5 series could not be scored, the first: series "short": 4 values; horizon 2, 2 windows and step 2 need 5; 1 window would fit'
json out series 5
json out series.1.scores.naive.mase null
json out series.1.scores.naive.mae 0
json out series.2.error '4 values; horizon 2, 2 windows and step 2 need 5; 1 window would fit'
json out series.3.error 'a single value: there is nothing to hold out'
json out series.4.error 'no value is observed'
json out scored 2
json out failed 3
json out without_mase 1
json out summary.naive.mase 1.5
json out summary.naive.mae 0.75
part forecast backtest many.jsonl -n 2 --windows 2 --season 1 -m "$MODEL"
out_has '^short: no scores: 4 values'
out_has '^2 series, 4 windows'
out_has '^1 series has no MASE'
part forecast backtest many.jsonl -n 2 --windows 2 --season 1 -m "$MODEL" --format csv
lines out 13
out_has '^id,method,season,windows,mae,mse,rmse,mape,smape,mase,rmsse,wape,relative_mase$'
out_has '^a,seasonal naive,1,2,1\.5,2\.5,'
out_has '^flat,naive,1,2,0,0,0,0,0,,,0,$'
fails 'line.csv: series "y": 40 values; horizon 50, 1 window and step 50 need 51; a horizon of 39 would fit' \
    forecast backtest line.csv -n 50 -m "$MODEL" -o answer
absent answer

# Threads and company do not change a score.
i=0
while [ $i -lt 30 ]; do
    awk -v k=$i 'BEGIN { printf "{\"id\":\"s%d\",\"sequence\":[0", k; for (i = 1; i < 20 + 5 * k; i++) printf ",%d", (i * i + k) % 17; print "]}" }'
    i=$((i + 1))
done >thirty.jsonl
ok forecast backtest thirty.jsonl -n 5 --windows 3 --step 1 -m "$MODEL" --json --quiet -t 1
mv out one
ok forecast backtest thirty.jsonl -n 5 --windows 3 --step 1 -m "$MODEL" --json --quiet -t 3
same out one
sed -n 8p thirty.jsonl >single.jsonl
ok forecast backtest single.jsonl -n 5 --windows 3 --step 1 -m "$MODEL" --format csv --quiet
mv out expected
ok forecast backtest thirty.jsonl -n 5 --windows 3 --step 1 -m "$MODEL" --format csv --quiet
{
    head -1 out
    grep '^s7,' out
} >alone
same alone expected
ok forecast backtest thirty.jsonl -n 5 -m "$MODEL" --quiet
out_lacks '^s7 '
ok forecast backtest thirty.jsonl -n 5 -m "$MODEL" --quiet --per-series
out_has '^s7 '

# Pictures and files.
ok forecast backtest long.csv -n 3 --level 80 -m "$MODEL" --plot picture.svg --quiet -o answer
[ ! -s out ] || complain "an answer on standard output too"
grep -q '<svg' picture.svg || complain "no picture"
grep -q 'MASE' answer || complain "no answer"
ok forecast backtest long.csv -n 3 -m "$MODEL" --show --quiet
out_has 'actual'
fails 'picture.gif' forecast backtest long.csv -n 3 -m "$MODEL" --plot picture.gif
fails '/dev/full: ' forecast backtest long.csv -n 3 -m "$MODEL" --quiet -o /dev/full
ok forecast backtest - -n 3 -m "$MODEL" --help
out_has 'usage: moezoo forecast backtest'

# Wrong usage.
usage 'no FILE given' forecast backtest -n 3
usage '--horizon N is missing' forecast backtest line.csv
usage '--windows' forecast backtest line.csv -n 3 --windows 0
usage '--step' forecast backtest line.csv -n 3 --step 0
usage '--forecasts goes with --json only' forecast backtest line.csv -n 3 --forecasts
usage '--per-series is for the table' forecast backtest line.csv -n 3 --per-series --json
usage '--show draws on standard output' forecast backtest line.csv -n 3 --show --json
usage 'give one' forecast backtest line.csv -n 3 --level 80 --quantiles 0.1
usage '--season 0x' forecast backtest line.csv -n 3 --season 0x
usage 'asks for something else' forecast backtest line.csv -n 3 --json --format csv

# Baselines beside a plain forecast: the same numbers as in a window, from the whole past.
ok forecast backtest line.csv -n 4 -m "$MODEL" --season 4 --json --forecasts --quiet
for name in naive seasonal_naive drift damped theta; do
    "$CLI_JSON" "series.0.forecasts.0.$name.3" <out
done >expected
ok forecast short.csv -n 4 -m "$MODEL" --season 4 --context 8 --baselines --json --quiet
json out series.0.season 4
json out series.0.baselines 5
for name in naive seasonal_naive drift damped theta; do
    "$CLI_JSON" "series.0.baselines.$name.3" <out
done >actual
same actual expected
json out series.0.baselines.drift.3 40
ok forecast short.csv -n 4 -m "$MODEL" --baselines --format csv --quiet
out_has '^id,step,forecast,naive,seasonal_naive,drift,damped,theta$'
out_has '^y,4,[-0-9.]+,36,36,40,[0-9.]+,[0-9.]+$'
ok forecast short.csv -n 4 -m "$MODEL" --baselines --season 4 --quiet --plot baselines.svg
out_has '^y \(36 values, season 4\)$'
out_has 'step +forecast +naive +seasonal naive +drift +damped +theta$'
grep -q 'theta' baselines.svg || grep -q '<svg' baselines.svg || complain "no picture"
ok forecast short.csv -n 4 -m "$MODEL" --json --quiet
! "$CLI_JSON" series.0.baselines <out >/dev/null 2>&1 || complain "baselines that nobody asked for"

# An interrupt keeps the series that are finished.
awk 'BEGIN { for (i = 0; i < 4000; i++) { printf "[1"; for (k = 0; k < 60; k++) printf ",%d", (k * k + i) % 11; print "]" } }' >long.jsonl
what='moezoo forecast backtest and SIGINT'
mkdir d
"$PROGRAM" forecast backtest long.jsonl -n 40 -m "$MODEL" --json -o d/answer 2>err &
pid=$!
# Something in the folder means that the first batch is being written.
while kill -0 $pid 2>/dev/null && [ -z "$(ls -A d)" ]; do
    sleep 0.02
done
kill -s INT $pid
wait $pid
code=$?
[ $code -eq 1 ] || complain "exit code $code, expected 1"
lines err 1
err_has '^moezoo forecast backtest: interrupted: [0-9]+ of 4000 series scored$'
json d/answer scored "$(sed -n 's/.*interrupted: \([0-9]*\) of.*/\1/p' err)"
