# Bands: --level and --quantiles, their keys and columns, what they refuse, and few origins.
awk 'BEGIN { for (i = 0; i < 60; i++) printf "%s%.4f", i ? "," : "{\"id\":\"wave\",\"sequence\":[", 10 + i / 20 + 3 * sin(i * 0.7) + (i * 7 % 11) / 9; print "]}" }' >wave.jsonl
{
    cat wave.jsonl
    echo '{"id":"short","sequence":[3,5,4,6,5,7,6,8,7,9,8]}'
    echo '{"id":"enough","sequence":[3,5,4,6,5,7,6,8,7,9,8,10]}'
    echo '{"id":"one","sequence":[5]}'
    echo '{"id":"flat","sequence":[2,2,2,2,2,2,2,2,2,2,2,2,2,2]}'
    echo '{"id":"none","sequence":[]}'
    awk 'BEGIN { for (i = 0; i < 40; i++) printf "%s%d", i ? "," : "{\"id\":\"slope\",\"sequence\":[", 100 - i * i; print "]}" }'
} >many.jsonl

# The edges of a band enclose the edges of a narrower one and the forecast; --nonnegative and --round keep the order.
ordered() {
    awk -F, 'NR == 1 { next }
        { count++; for (i = 5; i <= NF; i++) if ($i + 0 < $(i - 1) + 0) bad = $0 }
        END { exit bad != "" || count == 0 }' "$1" || complain "$1: edges cross: $(head -c 300 "$1")"
}
part forecast many.jsonl -n 70 -m "$MODEL" --format csv --quantiles 0.01,0.1,0.3,0.5,0.7,0.9,0.99
ordered out
head -n 1 out >header
echo 'id,step,forecast,0.01,0.1,0.3,0.5,0.7,0.9,0.99' >expected
same header expected
part forecast many.jsonl -n 70 -m "$MODEL" --format csv --level 50,80,99.9 --nonnegative --round
ordered out
head -n 1 out >header
echo 'id,step,forecast,lo-99.9,lo-80,lo-50,hi-50,hi-80,hi-99.9' >expected
same header expected

# The median is the forecast, whatever else is asked for.
ok forecast wave.jsonl -n 5 -m "$MODEL" --format csv --quantiles 0.5
awk -F, 'NR > 1 && $3 != $4 { exit 1 }' out || complain "0.5 is not the forecast: $(cat out)"

# Bands leave the forecast as it is; --level and --quantiles of the same edges agree, as do all orders of levels.
part forecast many.jsonl -n 5 -m "$MODEL" --format csv
cp out plain
part forecast many.jsonl -n 5 -m "$MODEL" --format csv --level 95,80
cut -d, -f1-3 out >cut
same cut plain
tail -n +2 out >levels
part forecast many.jsonl -n 5 -m "$MODEL" --format csv --level 80,95 --threads 1
tail -n +2 out >again
same again levels
part forecast many.jsonl -n 5 -m "$MODEL" --format csv --quantiles 0.025,0.1,0.9,0.975
tail -n +2 out >again
same again levels

# A series' band does not depend on the others.
ok forecast wave.jsonl -n 5 -m "$MODEL" --format csv --level 80,95
grep '^wave' out >alone
grep '^wave' levels >together
same alone together

# Keys of the JSON forms.
ok forecast wave.jsonl -n 2 -m "$MODEL" --json --level 80,95
out_has '"quantiles":\{"0.025":\[[^]]*\],"0.1":\[[^]]*\],"0.9":\[[^]]*\],"0.975":\[[^]]*\]\}'
json out series.0.warnings 0
ok forecast wave.jsonl -n 2 -m "$MODEL" --format jsonl --quantiles 0.05,0.5
out_has '"quantiles":\{"0.05":\[[^]]*\],"0.5":\[[^]]*\]\}'
ok forecast wave.jsonl -n 2 -m "$MODEL" --json
out_lacks quantiles

# Under 8 origins the series' own steps give the band, with a warning.
part forecast many.jsonl -n 3 -m "$MODEL" --json --level 80
grep '"short"' out >line
grep -q 'bands from the series.* own steps: its past allows 7 forecasts, 8 are needed' line || complain "no warning: $(cat line)"
grep '"one"' out >line
grep -q 'its past allows 0 forecasts, 8 are needed' line || complain "no warning: $(cat line)"
grep -q '"quantiles":{"0.1":\[5,5,5\],"0.9":\[5,5,5\]}' line || complain "not a band of a single value: $(cat line)"
grep '"enough"' out >line
grep -q 'own steps' line && complain "a warning with 8 origins: $(cat line)"
grep '"flat"' out >line
grep -q '"quantiles":{"0.1":\[2,2,2\],"0.9":\[2,2,2\]}' line || complain "the band of a constant: $(cat line)"
ok forecast wave.jsonl -n 3 -m "$MODEL" --json --level 80 --context 9
out_has 'its past allows 5 forecasts, 8 are needed'

# Wrong usage.
for value in 0 100 -5 101 abc '' 80, ,80 80,,95 '80, 95' nan inf 80x; do
    usage '--level' forecast wave.jsonl -n 3 --level "$value"
done
usage '--level 80,95,80: 80 stands there twice' forecast wave.jsonl -n 3 --level 80,95,80
usage '--level: more than 16 numbers' forecast wave.jsonl -n 3 --level 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
for value in 0 1 -0.1 1.5 abc '' 0.1, 0.1,,0.9 nan; do
    usage '--quantiles' forecast wave.jsonl -n 3 --quantiles "$value"
done
usage '0.1 after 0.9; they must ascend' forecast wave.jsonl -n 3 --quantiles 0.9,0.1
usage '0.5 after 0.5; they must ascend' forecast wave.jsonl -n 3 --quantiles 0.5,0.5
usage '--level is given twice' forecast wave.jsonl -n 3 --level 80 --level 95
usage '--level' forecast wave.jsonl -n 3 --level 80 --quantiles 0.1,0.9
