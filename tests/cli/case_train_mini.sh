# The miniature recipe of the repository: it reaches its loss, in one go or killed at 20 random moments.
RECIPE=$TESTS/../assets/recipes/forecast-mini.json

untimed() {
    sed 's/,"tokens_per_s":.*/}/' "$1/metrics.jsonl"
}

ok train "$RECIPE" --output whole --quiet
# Measured: 0.320 after 400 steps; a fresh model has 1.2.
tail -1 whole/metrics.jsonl | sed 's/.*"evaluation":{"loss":\([0-9.]*\).*/\1/' >loss
awk '{ exit !($1 > 0.2 && $1 < 0.335) }' loss || complain "the loss is $(cat loss), expected at most 0.335"
for file in config.json model.safetensors loss.svg experts.svg; do
    [ -s whole/$file ] || complain "no whole/$file"
done
ok forecast "$TESTS/../assets/samples/retail_sales.csv" -n 12 -m ./whole --level 80

# A moment of at most 0.4 s after each start; shorter than a run, longer than starting takes.
what='kill -9 at 20 random moments'
kills=0
for pause in $(awk 'BEGIN { srand(20); for (i = 0; i < 20; i++) printf "%.3f ", 0.02 + 0.38 * rand() }'); do
    "$PROGRAM" train "$RECIPE" --output killed --resume --quiet --set checkpoint.every_steps=7 >/dev/null 2>>killed.err &
    sleep "$pause"
    kill -9 $! 2>/dev/null && kills=$((kills + 1))
    wait $! 2>/dev/null
    # Each whole line is that of the run that was not killed.
    if [ -f killed/metrics.jsonl ]; then
        grep -v '"evaluation":' killed/metrics.jsonl | grep '}$' | sed 's/,"tokens_per_s":.*/}/' >part
        untimed whole | grep -v '"evaluation":' | head -"$(wc -l <part)" | cmp -s - part ||
            complain "after a kill the losses differ: $(tail -1 part)"
    fi
done
[ "$kills" -ge 1 ] || complain "no run was killed"
ok train "$RECIPE" --output killed --resume --quiet --set checkpoint.every_steps=7
untimed whole >whole.lines
untimed killed >killed.lines
same whole.lines killed.lines
same whole/model.safetensors killed/model.safetensors
