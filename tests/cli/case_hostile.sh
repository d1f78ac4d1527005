# Careless and hostile command lines: nothing is destroyed, no message misleads.
printf 'y\n1\n2\n3\n1\n2\n3\n1\n2\n3\n1\n2\n3\n' >data.csv
cp data.csv kept.csv

# Outputs that would replace the input, or one another.
for command in "forecast data.csv -n 2" "forecast backtest data.csv -n 2" "forecast anomalies data.csv"; do
    usage '--output data.csv would replace the input' $command -o data.csv
    usage '--output data.csv would replace the input' $command -o ./data.csv
    usage '--output and --plot both write new.svg' $command -o ./new.svg --plot new.svg
    absent new.svg
done
same data.csv kept.csv
ln -s data.csv picture.svg
usage '--plot data.csv would replace the input' forecast data.csv -n 2 --plot picture.svg
usage '--plot data.csv would replace the input' models show "$MODEL" --usage data.csv --plot picture.svg
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
