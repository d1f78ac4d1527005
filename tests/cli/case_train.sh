# moezoo train: from a recipe to a model that forecasts; killed, stopped and resumed.
awk 'BEGIN { for (s = 0; s < 3; s++) { printf "{\"id\": \"s%d\", \"values\": [", s
    for (i = 0; i < 120; i++) printf "%s%.4f", (i ? ", " : ""), sin(i / (3 + s)) * 5 + i / 20
    print "]}" } }' >series.jsonl
mkdir recipes
cat >recipes/tiny.json <<END
{"job": "forecast",
 "model": {"init": {"config": $(cat "$MODEL/config.json"), "seed": 3}},
 "data": {"sources": [{"kind": "jsonl", "path": "../series.jsonl", "weight": 2}, {"kind": "synthetic"}],
          "context": 24, "horizon": 8, "seed": 1},
 "optimizer": {"lr": 0.003, "ema": 0.9, "groups": [{"pattern": "*norm*", "weight_decay": 0}]},
 "schedule": {"steps": 12, "warmup_steps": 2},
 "batch": {"points": 60, "accumulate": 2},
 "evaluation": {"every_steps": 5, "examples": 3},
 "checkpoint": {"every_steps": 4, "keep": 1},
 "output": "../fresh"}
END

# Lines of metrics.jsonl without what is measured.
untimed() {
    sed 's/,"tokens_per_s":.*/}/' "$1/metrics.jsonl"
}

# A dry run changes nothing.
ok train recipes/tiny.json --dry-run
out_has '^parameters   [0-9.]+ k in [0-9]+ tensors, [0-9.]+ k trained$'
out_has '^group +\*norm\*: [0-9]+ in [0-9]+ tensors, weight decay 0$'
out_has '^data +recipes/\.\./series\.jsonl: 66\.7 % of the windows, 3 series, 360 points$'
out_has '^data +synthetic: 33\.3 % of the windows$'
out_has '^step +2 micro-batches: .* GFLOP$'
out_has '^memory +.* weights and gradients, '
out_has '^time +.* for 12 steps$'
absent fresh
ok train recipes/tiny.json --dry-run --json --set loss.kind=huber --set batch.accumulate=1
json out total_steps 12
json out sources.0.series 3
json out groups.0.pattern '*norm*'

# A whole training.
ok train recipes/tiny.json --output whole --json
json out finished true
json out steps 12
json out first_step 0
err_has '^moezoo train: step 5: evaluation [0-9.]+ \(huber [0-9.]+, balance [0-9.]+\)$'
lines whole/metrics.jsonl 15
for file in config.json model.safetensors loss.svg experts.svg checkpoints/step-00000012; do
    [ -e whole/$file ] || complain "no whole/$file"
done
ok models show whole
ok forecast series.jsonl -m ./whole -n 4

# Again: refused without --resume, and finished with it.
fails 'whole: holds a training already; --resume goes on with it' train recipes/tiny.json --output whole
untimed whole >whole.lines
ok train recipes/tiny.json --output whole --resume --quiet
out_has '^finished before: 12 of 12 steps; the model is in whole$'
err_empty
untimed whole >again.lines
same whole.lines again.lines

# Killed at any moment, then resumed: the same lines, the same model.
what='kill -9'
"$PROGRAM" train recipes/tiny.json --output killed --quiet --set schedule.steps=12 >/dev/null 2>child.err &
tries=0
until [ "$(cat killed/metrics.jsonl 2>/dev/null | wc -l)" -ge 6 ] || [ $tries -gt 2000 ]; do
    tries=$((tries + 1))
    sleep 0.01
done
kill -9 $! 2>/dev/null
wait $! 2>/dev/null
printf '{"step":7,"lo' >>killed/metrics.jsonl
ok train recipes/tiny.json --output killed --resume --quiet -t 1
untimed killed >killed.lines
same whole.lines killed.lines
same whole/model.safetensors killed/model.safetensors

# Stopped: the step is finished, saved, and the training can go on.
what='kill -INT'
"$PROGRAM" train recipes/tiny.json --output stopped --set schedule.steps=100000 >stopped.out 2>child.err &
child=$!
tries=0
until [ -s stopped/metrics.jsonl ] || [ $tries -gt 2000 ]; do
    tries=$((tries + 1))
    sleep 0.01
done
fails 'stopped is in use by another training' train recipes/tiny.json --output stopped --resume
kill -INT $child
wait $child || complain "exit code $?"
grep -q '^stopped; --resume goes on: steps 1 to [0-9]* of 100000 ' stopped.out || complain "$(cat stopped.out)"
[ -s stopped/model.safetensors ] || complain 'no model'
ls stopped/checkpoints | grep -q step- || complain 'no checkpoint'

# --resume without a checkpoint starts.
ok train recipes/tiny.json --output new --resume --quiet --set schedule.steps=2 --set evaluation.examples=0
lines new/metrics.jsonl 2
# A recipe that has changed is told.
ok train recipes/tiny.json --output new --resume --set schedule.steps=3
err_has 'step 2: the recipe is not the one of the checkpoint: changed is schedule$'

# A checkpoint to tune.
ok train recipes/tiny.json --output tuned --quiet --set schedule.steps=2 --set model.init=null --set "model.checkpoint=$MODEL" --set optimizer.lr=1e-5
[ -s tuned/model.safetensors ] || complain 'no model'
mkdir base
cp "$MODEL/config.json" base
fails 'base: holds a model \(config\.json\) that no training there has written' train recipes/tiny.json --output base --resume

fails 'tuned: is the checkpoint that is tuned; --output names another' train recipes/tiny.json --output tuned --resume --set model.init=null --set model.checkpoint=../tuned

# Bad recipes.
usage 'RECIPE.json is missing' train
fails 'nothing\.json' train nothing.json
fails 'tiny\.json: unknown key "optimiser"; did you mean "optimizer"\?' train recipes/tiny.json --set optimiser.lr=1
fails 'tiny\.json: schedule: steps is 0, expected 1 to' train recipes/tiny.json --set schedule.steps=0
fails 'loss: kind is "pinball", expected "huber"' train recipes/tiny.json --set loss.kind=pinball
fails 'batch\.tokens: ' train recipes/tiny.json --set batch.points=null --set batch.tokens=5
fails 'tiny\.json: output is missing' train recipes/tiny.json --set output=null
fails 'no\.csv' train recipes/tiny.json --set data.sources.0.path=/no.csv --set data.sources.0.kind=csv
fails 'cannot make the folder' train recipes/tiny.json --output series.jsonl/x
absent fresh
