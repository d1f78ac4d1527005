# Wrong usage: exit code 2, one line, nothing else looked at.
printf 'y\n1\n2\n3\n' >y.csv

usage 'no FILE given' forecast
usage 'no FILE given' forecast --horizon 3
usage '--horizon N is missing' forecast y.csv
usage '--horizon: 0 is outside 1 to 65536' forecast y.csv --horizon 0
usage '--horizon: -1 is outside 1 to 65536' forecast y.csv --horizon -1
usage '--horizon: 65537 is outside 1 to 65536' forecast y.csv -n 65537
usage '--horizon: 99999999999999999999 is outside' forecast y.csv --horizon=99999999999999999999
for value in abc 3x 1.5 1e3 ' 3' 0x10; do
    usage 'is not a whole number' forecast y.csv --horizon "$value"
done
usage '--horizon: "" is not a whole number' forecast y.csv --horizon ''
usage '--horizon needs a value' forecast y.csv --horizon
usage '--horizon needs a value' forecast y.csv -n --json
usage '--horizon is given twice' forecast y.csv -n 3 --horizon 3
usage '--quiet is given twice' forecast y.csv -n 3 --quiet --quiet
usage '--quiet takes no value' forecast y.csv -n 3 --quiet=yes
usage 'unknown option --horzion; did you mean --horizon\?' forecast y.csv --horzion 3
usage 'unknown option --hor; did you mean --horizon\?' forecast y.csv --hor 3
usage 'unknown option --xyzzy; moezoo forecast --help lists' forecast y.csv -n 3 --xyzzy
usage 'unknown option -z' forecast y.csv -n 3 -z
usage 'one argument too many' forecast y.csv other.csv -n 3
usage '--format: "xml" is not one of table\|csv\|json\|jsonl' forecast y.csv -n 3 --format xml
usage '--format: "jso" is not one of' forecast y.csv -n 3 --format jso
usage '--json means --format json' forecast y.csv -n 3 --json --format csv
usage '--missing: "mean" is not one of linear\|forward\|seasonal\|drop\|error' forecast y.csv -n 3 --missing mean
usage '--normalize: ' forecast y.csv -n 3 --normalize no
usage '--precision: ' forecast y.csv -n 3 --precision f16
usage '--isa: "sse" is not one of auto\|scalar' forecast y.csv -n 3 --isa sse
usage '--threads: 1025 is outside 0 to 1024' forecast y.csv -n 3 -t 1025
usage '--context: 0 is outside' forecast y.csv -n 3 -c 0
usage '--seed: -1 is outside' forecast y.csv -n 3 --seed -1
usage '--model: the value is empty' forecast y.csv -n 3 -m ''
usage 'one argument too many' models list patchmoe-5m
usage '--repeat: 0 is outside' bench forecast --repeat 0
usage '--series: 0 is outside' bench forecast --series 0
usage '--window: 1 is outside' bench train --window 1
usage '--shape: ' bench train --shape 2b

# The forms an option may take.
ok forecast y.csv --horizon 2 --model "$MODEL" --threads 1 --json --quiet --seed 7 --isa auto
err_empty
mv out expected
ok forecast -n2 "-m=$MODEL" -t=1 --format=json --quiet --seed=0 -- y.csv
same out expected
ok forecast -n 2 --json --format json -m "$MODEL" -c 3 --normalize window --missing linear --precision f32 y.csv
same out expected

cp y.csv ./--odd.csv
ok forecast -n 2 -m "$MODEL" -- --odd.csv
