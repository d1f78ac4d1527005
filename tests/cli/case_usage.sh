# moezoo models show --usage: which experts the routers choose.
awk 'BEGIN { print "a,b"; for (i = 0; i < 200; i++) print sin(i / 3) * 5 + i % 7 "," cos(i / 9) }' >two.csv
cut -d, -f1 two.csv >one.csv

ok models show "$MODEL" --usage one.csv
out_has '^model tiny, 3 layers, 2 of 5 experts per point$'
out_has '^1 series, 200 points'
out_has '^layer +effective experts +largest share +never used$'
out_has '^    2 +[1-5]\.[0-9]+ '
out_has '^experts of each layer$'
out_has '^layer 0 along time$'
out_has '^layer 2 along time$'
err_empty

# Every point chooses two experts in every layer.
ok models show "$MODEL" --usage two.csv --json
json out n_series 2
json out n_points 400
json out n_experts 5
json out per_point 2
json out layers.2.layer 2
out_lacks 'null'
for layer in 0 1 2; do
    sum=0
    for expert in 0 1 2 3 4; do
        sum=$((sum + $("$CLI_JSON" layers.$layer.counts.$expert <out)))
    done
    [ "$sum" -eq 800 ] || complain "layer $layer: $sum choices, expected 800"
done
mv out two.json
ok models show "$MODEL" --usage two.csv --json --threads 1
same out two.json
INPUT=two.csv
ok models show "$MODEL" --usage - --json
same out two.json
INPUT=/dev/null

# The newest values only; one layer along time; one column.
ok models show "$MODEL" --usage two.csv --columns b --context 10 --layer 1 --json
json out n_points 10
json out blocks.0 191
json out blocks.9 200
out_lacks '"layer":0,.*along_time'
out_has '"layer":1,.*along_time'

# Pictures.
for kind in svg png pdf; do
    ok models show "$MODEL" --usage two.csv --plot usage.$kind --quiet
    [ -s usage.$kind ] || complain "no usage.$kind"
done

# A series of nothing: the others are run.
printf 'a,b\n1,NA\n2,NA\n3,NA\n' >part.csv
part models show "$MODEL" --usage part.csv --json
json out n_series 1
json out errors.0.id b
err_has 'part\.csv: 1 of 2 series could not be run, the first: series "b"'
part models show "$MODEL" --usage part.csv
out_has '^b: not run: '

# Bad input.
fails 'dense: a dense model' models show "$TESTS/golden/time-moe/dense" --usage one.csv
fails '--layer 3: .* has layers 0 to 2' models show "$MODEL" --usage one.csv --layer 3
fails 'must end in \.svg, \.png or \.pdf' models show "$MODEL" --usage one.csv --plot a.txt
fails 'no-such\.csv' models show "$MODEL" --usage no-such.csv
fails 'no such folder' models show no-such-model --usage one.csv
mkdir other
echo '{"model_type": "nosuch"}' >other/config.json
fails 'model_type is "nosuch", known are: time_moe' models show other --usage one.csv
printf 'y\nNA\nNA\n' >nothing.csv
fails 'nothing\.csv: ' models show "$MODEL" --usage nothing.csv
usage 'need --usage FILE' models show "$MODEL" --plot a.png
usage 'need --usage FILE' models show "$MODEL" --layer 0
usage 'need --usage FILE' models show "$MODEL" --missing drop
usage '--layer: -1 is outside' models show "$MODEL" --usage one.csv --layer -1
usage 'no model given' models show --usage one.csv
