# A model of patches with quantiles of its own, through every command.
mkdir patches
"$MAKE_CHECKPOINT" "$TESTS/golden/patch-moe/base" patches f32 || complain "no checkpoint"
awk 'BEGIN { print "ds,y"; for (i = 0; i < 480; i++) { y = 50 + 12 * sin(i * 3.14159265 / 12) + i * 7 % 11 / 9
    if (i == 301) y = 900; printf "2024-03-%02dT%02d:00,%.4f\n", 1 + int(i / 24), i % 24, y } }' >load.csv

ok models show patches
out_has '^family +patch-moe$'
out_has '^parameters +70240 '
out_has '^active per patch +61024 '
out_has '^experts a layer +4 routed, 2 of them per patch, 1 shared$'
out_has '^positions +512 '
out_has '^patch +16 points$'
out_has '^quantiles +0\.1, 0\.25, 0\.5, 0\.75, 0\.9$'
ok models show patches --json
json out family patch-moe
json out patch_len 16
json out quantiles 5
json out quantiles.1 0.25
ok models show "$MODEL" --json
json out patch_len 1
json out quantiles 0
ok models show patches --usage load.csv
out_has '2 of 4 experts per patch'

# Edges enclose those of a narrower band, within the head and beyond it; the median is the forecast.
ordered() {
    awk -F, -v first="$2" 'NR == 1 { next }
        { count++; for (i = first + 1; i <= NF; i++) if ($i + 0 < $(i - 1) + 0) bad = $0 }
        END { exit bad != "" || count == 0 }' "$1" || complain "$1: edges cross: $(head -c 300 "$1")"
}
ok forecast load.csv -n 150 -m patches --format csv --quantiles 0.001,0.1,0.3,0.5,0.7,0.9,0.999
ordered out 5
lines out 151
cut -d, -f4 out | tail -n +2 >forecast
cut -d, -f8 out | tail -n +2 >median
same median forecast
ok forecast load.csv -n 150 -m patches --format csv
cut -d, -f4 out | tail -n +2 >plain
same plain forecast
ok forecast load.csv -n 150 -m patches --format csv --threads 1 --level 80,99.8
ordered out 5
cut -d, -f6,7 out | tail -n +2 >edges
ok forecast load.csv -n 150 -m patches --format csv --quantiles 0.1,0.9
cut -d, -f5,6 out | tail -n +2 >again
same again edges
ok forecast load.csv -n 3 -m patches --json --level 80 --plot picture.svg
out_has '"quantiles":\{"0.1":\[[^]]*\],"0.9":\[[^]]*\]\}'
[ -s picture.svg ] || complain "no picture"
ok forecast load.csv -n 3 -m patches --level 80 --show --nonnegative --round

# Bands need no past: short series have them too, and constants have theirs.
{
    echo '{"id":"short","sequence":[3,5,4,6]}'
    echo '{"id":"one","sequence":[5]}'
    echo '{"id":"flat","sequence":[2,2,2,2,2]}'
} >few.jsonl
ok forecast few.jsonl -n 2 -m patches --json --level 80
out_lacks 'own steps'
out_has '"quantiles":\{"0.1":\[5,5\],"0.9":\[5,5\]\}'
out_has '"quantiles":\{"0.1":\[2,2\],"0.9":\[2,2\]\}'

# Backtests score the model's quantiles; the search for anomalies finds what stands out.
ok forecast backtest load.csv -n 24 --windows 2 -m patches --level 80 --json
json out windows 2
out_has '"coverage"'
ok forecast anomalies load.csv -m patches --json
out_has '"number":302|"index":302'
ok forecast anomalies load.csv -m patches --format csv
awk -F, 'NR > 1 { n++; if (!($6 <= $5 && $5 <= $7)) bad = 1; if ($7 + $6 > 2 * $5 + 1e-6 || $7 + $6 < 2 * $5 - 1e-6) skew++ }
    END { exit n == 0 || bad || skew == 0 }' out || complain "bands are not the model's: $(cat out)"
ok forecast evaluate load.csv -n 24 -m patches --json
json out protocol ett
json out context 96
ok bench forecast -m patches --series 2 -c 64 -n 8 --repeat 1 --json
json out family patch-moe

# Checkpoints that are wrong say where, in one line.
sed 's/"head_len": 64/"head_len": 60/' patches/config.json >config && mkdir wrong && cp config wrong/config.json
cp patches/model.safetensors wrong/
fails 'head_len 60 is no multiple of patch_len 16' forecast load.csv -n 3 -m wrong
sed 's/"head_len": 64/"head_len": 128/' patches/config.json >wrong/config.json
fails 'head\.down_proj\.weight' forecast load.csv -n 3 -m wrong
sed 's/0\.5, 0\.75/0.6, 0.75/' patches/config.json >wrong/config.json
fails 'quantiles lacks 0\.5' models show wrong

# Fewer patches than columns: a column is a patch, none is empty.
awk 'BEGIN { print "y"; for (i = 0; i < 720; i++) print 50 + 9 * sin(i / 4) }' >long.csv
ok models show patches --usage long.csv --context 720 --layer 0 --quiet
out_has '^layer 0 along time$'
out_lacks '│.*·'
