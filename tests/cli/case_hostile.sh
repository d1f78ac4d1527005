# Careless and hostile command lines: nothing is destroyed, no message misleads.
printf 'y\n1\n2\n3\n1\n2\n3\n1\n2\n3\n1\n2\n3\n' >data.csv
cp data.csv kept.csv

# A picture in place of the input or of the answer.
for command in "forecast data.csv -n 2" "forecast backtest data.csv -n 2" "forecast anomalies data.csv"; do
    usage '--output and --plot both write new.svg' $command -o ./new.svg --plot new.svg
    absent new.svg
done
ln -s data.csv picture.svg
usage '--plot picture.svg would replace the input' forecast data.csv -n 2 --plot picture.svg
usage '--plot picture.svg would replace the input' models show "$MODEL" --usage data.csv --plot picture.svg
same data.csv kept.csv
ok forecast data.csv -n 2 -m "$MODEL" -o /dev/null

# A closed standard stream is not mistaken for the output file.
ok forecast data.csv -n 2 -m "$MODEL" --format csv -o expected.csv
what='closed streams'
"$PROGRAM" forecast data.csv -n 2 -m "$MODEL" --format csv -o closed.csv >&- 2>&- <&- || complain "exit code $?"
same closed.csv expected.csv
"$PROGRAM" forecast data.csv -n 2 -m "$MODEL" --format csv -o closed.csv >&- 2>&- || complain "exit code $?"
same closed.csv expected.csv
"$PROGRAM" forecast - -n 2 -m "$MODEL" <&- 2>err && complain 'read a closed standard input'
err_has 'standard input: cannot read: Bad file descriptor'
"$PROGRAM" forecast data.csv -n 2 -m "$MODEL" >&- 2>err && complain 'wrote to a closed standard output'
err_has 'standard output: Bad file descriptor'

# An id of 10,000 bytes leaves room for what is wrong with its series.
long=$(head -c 9999 /dev/zero | tr '\0' x)
printf 'unique_id,ds,y\n%sé,2024-01-02,1\n%sé,2024-01-01,\n' "$long" "$long" >long.csv
fails 'xxx\.\.\.": row 3 \(2024-01-01\) is earlier than row 2' forecast long.csv -n 2 -m "$MODEL"
fails 'xxx\.\.\.": row 3 \(2024-01-01\) is earlier than row 2' models show "$MODEL" --usage long.csv
fails 'xxx\.\.\.": 1 of 2 values are missing' forecast long.csv -n 2 -m "$MODEL" --sort --missing error
ok forecast long.csv -n 2 -m "$MODEL" --sort --format csv
err_has '^moezoo forecast: warning: series "x+\.\.\.": sorted by date: 1 row'

# What looks like dates and is not read as such is said, and so is a frequency without dates.
printf 'ds,y\n2024-01-01 25:00,1\n2024-01-01 26:00,2\n' >hours.csv
ok forecast hours.csv -n 1 -m "$MODEL" --json
json out warnings.0 'column "ds" is not read as dates: "2024-01-01 25:00" (row 2) is none'
ok forecast data.csv -n 1 -m "$MODEL" --json --freq D
json out warnings.0 'the frequency has no effect: no dates are read'
printf '{"id":"a","start":"01/02/2024","freq":"D","sequence":[1,2]}\n' >start.jsonl
ok forecast start.jsonl -n 1 -m "$MODEL" --json
json out series.0.start 01/04/2024
json out series.0.warnings.0 'start "01/02/2024" is ambiguous: the month was read first; --day-first reads the day first'
ok forecast start.jsonl -n 1 -m "$MODEL" --json --day-first --freq h
json out series.0.warnings.0 'freq "D" of the line is overruled by the option'
printf '{"id":"a","start":"2024-01-01","freq":"W","sequence":[1,2]}\n' >start.jsonl
ok forecast start.jsonl -n 1 -m "$MODEL" --json --freq W-MON
json out series.0.start 2024-01-15
json out series.0.warnings.0 'short series: 2 values to go by'
printf '{"id":"a","timestamps":["2024-01-01",true],"sequence":[1,2]}\n' >stamps.jsonl
fails 'line 1: timestamps\[1\] is a truth value, expected a date as text or an epoch' forecast stamps.jsonl -n 1 -m "$MODEL"
printf '{"id":"a","start":"%s","sequence":[1]}\n' ééééééééééééééééééééééééééééééééééééé >start.jsonl
fails 'start "é+\.\.\." is not a date' forecast start.jsonl -n 1 -m "$MODEL"

# A thousand series with the same warning do not fill the screen.
{
    echo unique_id,ds,y
    seq -f 's%g,2024-01-01,1' 1000
} >many.csv
ok forecast many.csv -n 1 -m "$MODEL" --format csv
lines err 22
err_has '^moezoo forecast: warning: 1980 more; --json has all$'

# Text that turns around, and messages that would steer the terminal.
printf '{"id":"\\u202eabc\\u2069","sequence":[1,2,3]}\n{"id":"\\u009b31m","sequence":[]}\n' >turn.jsonl
part forecast turn.jsonl -n 1 -m "$MODEL"
out_has '^\?abc\? \(3 values\)'
err_has 'the first: series "\?\?31m": it has no values'
