# Dates, ids and repairs: what the answer says of them, and the one line about each fault.
cat >long.csv <<'END'
unique_id,ds,y
a,2024-01-31,3
b,2024-01-01,5
a,2024-02-29,3
a,2024-03-31,3
b,2024-01-02,5
b,2024-01-04,5
END
ok forecast long.csv -n 2 -m "$MODEL" --json --quiet
json out series 2
json out series.0.id a
json out series.0.start 2024-04-30
json out series.0.timestamps.1 2024-05-31
json out series.1.start 2024-01-05
json out series.1.warnings.0 '1 date missing in 1 gap, the first before row 7 (2024-01-04)'
ok forecast long.csv -n 1 -m "$MODEL" --format csv --quiet
cat >expected <<'END'
id,step,timestamp,forecast
a,1,2024-04-30,3
b,1,2024-01-05,5
END
same out expected
ok forecast long.csv -n 1 -m "$MODEL" --quiet
out_has '^a \(3 values to 2024-03-31, ME\)$'
out_has '^ +1 +2024-04-30 +3\.00000$'

# Without dates there are none.
printf '5\n5\n' >plain.csv
ok forecast plain.csv -n 1 -m "$MODEL" --json --quiet
out_lacks 'start|timestamps'
ok forecast plain.csv -n 1 -m "$MODEL" --format csv --quiet
out_has '^id,step,forecast$'

# One id is at fault: the others go on.
printf 'unique_id,ds,y\na,2024-01-02,1\na,2024-01-01,1\nb,2024-01-01,5\n' >order.csv
part forecast order.csv -n 1 -m "$MODEL" --json --quiet
json out series.0.error 'row 3 (2024-01-01) is earlier than row 2 (2024-01-02) (1 such row); --sort puts them in order'
json out series.1.forecast.0 5
ok forecast order.csv -n 1 -m "$MODEL" --json --quiet --sort
json out series.0.timestamps.0 2024-01-03

# Columns by option, and by number.
printf 'shop,day,sold\nn,01/02/2024,4\nn,02/02/2024,4\n' >shop.csv
ok forecast shop.csv -n 1 -m "$MODEL" --id shop --time '#2' --value sold --day-first --json
json out series.0.timestamps.0 03/02/2024
ok forecast shop.csv -n 1 -m "$MODEL" --id shop --json
json out warnings.0 'row 2: "01/02/2024" is ambiguous, as are all dates: the month was read first; --day-first reads the day first'
err_has 'warning: shop.csv: row 2: "01/02/2024" is ambiguous'

# Frequencies and seasons.
printf 'ds,y\n2024-01-01,1\n2024-01-02,1\n2024-01-03,1\n' >days.csv
ok forecast days.csv -n 1 -m "$MODEL" --freq D --json --quiet
json out series.0.start 2024-01-04
fails 'days.csv: --freq MS contradicts the dates: row 3 \(2024-01-02\) is not on its grid' forecast days.csv -n 1 \
    -m "$MODEL" --freq MS
usage '--freq: frequency "fortnight" is unknown' forecast days.csv -n 1 --freq fortnight
usage '--season x: expected auto or 1 to' forecast days.csv -n 1 --season x
usage '--season 0: expected auto or 1 to' forecast days.csv -n 1 --season 0
printf 'y\n1\n9\n2\n1\nNA\n2\n1\n9\n2\n' >season.csv
ok forecast season.csv -n 1 -m "$MODEL" --missing seasonal --season 3 --format csv --quiet
mv out expected
printf 'y\n1\n9\n2\n1\n9\n2\n1\n9\n2\n' >filled.csv
ok forecast filled.csv -n 1 -m "$MODEL" --format csv --quiet
same out expected

# Dates that cannot be.
printf 'ds,y\n2024-01-31,1\n2024-02-30,1\n' >bad.csv
fails 'bad.csv: column "ds": row 3: "2024-02-30" is a date that does not exist' forecast bad.csv -n 1 -m "$MODEL"
printf 'ds,y\n2024-01-01T00:00:00Z,1\n2024-01-01T01:00:00,1\n' >bad.csv
fails 'row 3: "2024-01-01T01:00:00" has no time zone' forecast bad.csv -n 1 -m "$MODEL"

# The shorter schedule is labelled.
ok forecast filled.csv -n 3 -m "$MODEL" --overshoot --json
json out schedule overshoot
ok forecast filled.csv -n 3 -m "$MODEL" --overshoot
out_has "^model tiny, horizon 3, overshoot \(not the authors' schedule\)$"

# What is said about the whole input is said by every command that reads it, and once.
told_once() {
    [ "$(grep -c 'is not read' err)" -eq 1 ] || complain "a warning told more than once: $(cat err)"
}
{
    echo 'ds,y,other'
    awk 'BEGIN { for (i = 0; i < 140; i++) printf "%d,%d,1\n", 1800 + i, i * 31 % 17 }'
} >others.csv
for command in 'forecast' 'forecast backtest' 'forecast anomalies'; do
    # shellcheck disable=SC2086
    ok $command others.csv -m "$MODEL" -n 4
    err_has "^moezoo $command: warning: others\.csv: column \"other\" is not read"
    told_once
done
ok forecast evaluate others.csv -m "$MODEL" -n 4
err_has '^moezoo forecast evaluate: warning: others\.csv: column "other" is not read'
told_once
ok models show "$MODEL" --usage others.csv
err_has '^moezoo models show: warning: others\.csv: column "other" is not read'
told_once

# A start off the grid of its frequency is told.
printf '{"id":"a","start":"2024-01-15","freq":"MS","target":[1,1,1]}\n' >start.jsonl
ok forecast start.jsonl -n 1 -m "$MODEL" --json --quiet
json out series.0.start 2024-04-01
json out series.0.warnings.0 'start 2024-01-15 is not on the grid of MS, the dates after it are'
