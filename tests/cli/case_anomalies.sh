# moezoo forecast anomalies: values outside the band of their own past.

# A wave of period 12 with two spikes, a gap and, beside it, a series that is too short.
awk 'BEGIN {
    print "wave,short"
    for (i = 1; i <= 300; i++) {
        y = 10 + 5 * sin(i * 3.14159265358979 / 6) + (i * 7919 % 101) / 200
        if (i == 200) y = 40
        if (i == 277) y = -25
        printf "%s,%s\n", (i == 150 ? "NA" : y), (i <= 20 ? i : "")
    }
}' >wave.csv
cut -d, -f1 wave.csv >one.csv

ok forecast anomalies one.csv -c 48 --season 12
out_has '^model patchmoe-5m, level 99 %$'
out_has '^wave \(300 values in blocks of 12, 16[0-9] judged, [0-9]+ outside: '
out_has '^ +index +value +expected +lower +upper +score$'
out_has '^ +200 +40 '
out_has '^ +277 +-25 '
out_has '^  warning: 1 missing value filled: not judged$'
err_has 'judged points outside'

ok forecast anomalies one.csv -c 48 --json --quiet --season 12
json out level 99
json out model patchmoe-5m
json out series.0.id wave
json out series.0.n_values 300
json out series.0.horizon 12
err_empty
mv out whole.json
INPUT=one.csv
ok forecast anomalies - -c 48 --season 12 --json --quiet -o answer.json --threads 1
INPUT=/dev/null
same whole.json answer.json

# Other forms. In CSV the index and the score can be found by their columns.
ok forecast anomalies one.csv -c 48 --format csv --quiet
out_has '^id,index,timestamp,value,expected,lower,upper,score$'
out_has '^wave,200,[^,]*,40,'
out_lacks '^wave,150,'
ok forecast anomalies one.csv -c 48 --format jsonl --quiet
lines out 1
grep -q '"value": *40[,.}]' out || complain "no spike in the answer: $(head -c 400 out)"
ok forecast anomalies one.csv -c 48 --level 80 -n 6 --missing drop --format csv --quiet
out_has '^wave,200,'

# One series cannot be judged: the other can.
part forecast anomalies wave.csv -c 48 --json --quiet
json out series.0.id wave
json out series.1.error '20 values, at least 121 are needed at level 99 in blocks of 8'
err_has 'wave\.csv: 1 of 2 series could not be judged, the first: series "short": 20 values'
part forecast anomalies wave.csv -c 48
out_has '^short: not judged: 20 values, at least '

# Pictures.
ok forecast anomalies one.csv -c 48 --plot a.svg --quiet
grep -q '<svg' a.svg || complain 'a.svg is no SVG'
sed '1s/.*/wave (MW)/' one.csv >unit.csv
ok forecast anomalies unit.csv --plot unit.svg --quiet
grep -q '<svg' unit.svg || complain 'unit.svg is no SVG'
ok forecast anomalies one.csv -c 48 --plot a.png --show
out_has '◆'
[ -s a.png ] || complain 'no a.png'
ok forecast anomalies one.csv -c 48 --json -o a.json --show
json a.json series.0.id wave

# A constant series is quiet, also where it is short of nothing.
awk 'BEGIN { print "c"; for (i = 0; i < 200; i++) print 7 }' >constant.csv
ok forecast anomalies constant.csv -c 48 --json --quiet
json out series.0.anomalies 0

# Bad input.
printf 'y\n1\n2\n3\n' >tiny.csv
fails 'tiny\.csv: series "y": 3 values, at least 121 are needed at level 99 in blocks of 8' forecast anomalies tiny.csv
fails 'at least 1017 are needed at level 99\.9' forecast anomalies tiny.csv --level 99.9
printf 'y\nNA\n\nNA\n' >nothing.csv
fails 'nothing\.csv: ' forecast anomalies nothing.csv
printf 'a,b\n1,2\n3,4\n' >two.csv
fails 'none of the 2 series can be judged: series "a"' forecast anomalies two.csv
fails '1 of 300 values are missing' forecast anomalies one.csv --missing error
fails 'no-such\.csv' forecast anomalies no-such.csv
fails 'must end in \.svg, \.png or \.pdf' forecast anomalies one.csv --plot a.jpg
usage 'no FILE given' forecast anomalies
usage 'level' forecast anomalies one.csv --level 0
usage 'level' forecast anomalies one.csv --level 100
usage 'expected one level' forecast anomalies one.csv --level 80,95
usage '--horizon: 0 is outside 1 to' forecast anomalies one.csv -n 0
usage '--show draws on standard output' forecast anomalies one.csv --json --show
usage '--json means --format json' forecast anomalies one.csv --json --format csv
ok forecast anomalies --help
out_has '^examples:'
