# What FILE may be, and what it may not: one line, exit code 1, no output file.
f() {
    pattern=$1
    shift
    fails "$pattern" forecast "$@" -n 2 -m "$MODEL" -o answer
    absent answer
}

f 'nofile\.csv: .*No such file' nofile.csv
f 'directory' .
: >empty.csv
f 'empty\.csv: .*empty' empty.csv
echo 'a,b' >header.csv
f 'header\.csv: .*no data' header.csv
printf 'a\001\000\377\376b\000\n' >binary.csv
f 'binary\.csv: .*binary' binary.csv
printf 'date,a,b\n2020-01-01,1,2\n2020-01-02,x,3\n' >text.csv
f 'text\.csv: .*row 3.*"a".*"x"' text.csv
printf 'a,b\n1,2\n3,4\n' >ab.csv
f 'no column "c"' ab.csv --columns c
printf 'ds,y\n2020-01-01,\n2020-01-02,NA\n' >missing.csv
f 'missing\.csv: series "y": .*all 2 values are missing' missing.csv
printf 'a,b\nNA,NA\nNA,NA\n' >missing2.csv
f 'none of the 2 series can be forecast' missing2.csv
printf 'y\n1\n\nNA\n3\n' >gap.csv
f 'gap\.csv: series "y": .*missing' gap.csv --missing error
printf '{"id": "a", "sequence": [1, 2\n' >broken.jsonl
f 'broken\.jsonl: line 1' broken.jsonl
printf '{"id": "a", "sequence": [1, 2, 3]}\n{"id": "b", "sequence": ["x"]}\n' >text.jsonl
f 'text\.jsonl: line 2' text.jsonl
head -c 200000 /dev/zero | tr '\0' '[' >deep.jsonl
f 'deep\.jsonl: line 1' deep.jsonl
printf '{"id": "a", "sequence": []}\n' >none.jsonl
f 'none\.jsonl: series "a": it has no values' none.jsonl
printf 'y\n1e308\n-1e308\n' >large.csv
f 'large\.csv: series "y": the value -?1e\+308 is too large' large.csv --normalize none
f 'empty' -
INPUT=header.csv
f 'no data' -
INPUT=/dev/null

# One bad series in a batch: the others go on.
printf 'a,b,c\n,1,7\n,3,7\n,2,7\n' >half.csv
part forecast half.csv -n 2 -m "$MODEL" --json
json out series 3
json out series.0.id a
json out series.0.error 'nothing to go by, all 3 values are missing'
json out series.1.forecast 2
json out series.2.forecast.1 7
json out series.0 2
part forecast half.csv -n 2 -m "$MODEL" --format csv --quiet
lines out 5
part forecast half.csv -n 2 -m "$MODEL"
out_has '^a: no forecast: nothing to go by'

# What works though it is little, flat or large.
printf 'y\n42.5\n' >one.csv
ok forecast one.csv -n 3 -m "$MODEL" --json
json out series.0.forecast.2 42.5
json out series.0.warnings 1
printf 'y\n7\n7\n7\n' >flat.csv
ok forecast flat.csv -n 1 -m "$MODEL" --json
json out series.0.forecast.0 7
ok forecast large.csv -n 2 -m "$MODEL" --json
json out series.0.forecast 2
out_lacks 'null|inf|nan'

# Gaps are filled as asked, and said so.
printf 'y\n1\nNA\n3\nNA\n' >gaps.csv
for policy in linear:2 forward:1; do
    printf 'y\n1\n%s\n3\n' "${policy#*:}" >filled.csv
    ok forecast filled.csv -n 2 -m "$MODEL" --format csv --quiet
    mv out expected
    ok forecast gaps.csv -n 2 -m "$MODEL" --format csv --quiet --missing "${policy%:*}"
    same out expected
done
ok forecast gaps.csv -n 2 -m "$MODEL" --json
json out series.0.warnings.0 '1 missing value filled (linear)'
json out series.0.warnings.1 '1 missing value at the end removed: the forecast starts after the last observed value'
printf 'y\n1\n3\n' >dropped.csv
ok forecast dropped.csv -n 2 -m "$MODEL" --format csv --quiet
mv out expected
ok forecast gaps.csv -n 2 -m "$MODEL" --format csv --quiet --missing drop
same out expected

# The same series by any way in.
printf 'date;a;b\r\n2020-01-01;"1,5";4\r\n2020-01-02;2,5;1\r\n2020-01-03;2;5\r\n' >semi.csv
dates='"start":"2020-01-01","freq":"D"'
printf '{"id":"a",%s,"sequence":[1.5,2.5,2]}\n{"id":"b",%s,"sequence":[4,1,5]}\n' "$dates" "$dates" >ab.jsonl
ok forecast ab.jsonl -n 3 -m "$MODEL" --json
mv out expected
ok forecast semi.csv -n 3 -m "$MODEL" --json
same out expected
INPUT=ab.jsonl
ok forecast - -n 3 -m "$MODEL" --json
same out expected
INPUT=/dev/null
ok forecast semi.csv -n 3 -m "$MODEL" --columns b --json
json out series 1
json out series.0.id b

# Only the newest values count.
ok forecast ab.jsonl -n 2 -c 2 -m "$MODEL" --format csv --quiet
mv out expected
dates='"start":"2020-01-02","freq":"D"'
printf '{"id":"a",%s,"sequence":[2.5,2]}\n{"id":"b",%s,"sequence":[1,5]}\n' "$dates" "$dates" >short.jsonl
ok forecast short.jsonl -n 2 -m "$MODEL" --format csv --quiet
same out expected
