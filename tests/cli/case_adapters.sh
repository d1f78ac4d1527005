# Low-rank adapters: trained, shown, used, merged.
awk 'BEGIN { for (s = 0; s < 3; s++) { printf "{\"id\": \"s%d\", \"values\": [", s
    for (i = 0; i < 120; i++) printf "%s%.4f", (i ? ", " : ""), sin(i / (3 + s)) * 5 + i / 20
    print "]}" } }' >series.jsonl
cp -r "$MODEL" base
cat >lora.json <<'END'
{"job": "forecast",
 "model": {"checkpoint": "base", "lora": {"rank": 2, "alpha": 4, "targets": ["q_proj", "gate_proj", "*.shared_expert.*"]}},
 "data": {"sources": [{"kind": "jsonl", "path": "series.jsonl"}], "context": 40, "horizon": 8},
 "optimizer": {"lr": 0.01}, "schedule": {"steps": 6}, "batch": {"points": 100},
 "evaluation": {"examples": 2}, "save_dtype": "f32"}
END

ok train lora.json --dry-run
out_has '^parameters   [0-9.]+ k in [0-9]+ tensors, '
ok train lora.json --output tuned --quiet
for file in adapter_config.json adapter_model.safetensors metrics.jsonl; do
    [ -s tuned/$file ] || complain "no tuned/$file"
done
absent tuned/config.json
absent tuned/model.safetensors
cmp -s base/model.safetensors "$MODEL/model.safetensors" || complain 'the base has changed'
# Stopped half-way and resumed, the adapter is the same.
ok train lora.json --output again --quiet --set schedule.steps=3 --set schedule.kind=constant
ok train lora.json --output once --quiet --set schedule.kind=constant
ok train lora.json --output again --quiet --set schedule.kind=constant --resume
same again/adapter_model.safetensors once/adapter_model.safetensors
mkdir foreign
cp tuned/adapter_config.json foreign/
fails 'foreign: holds a model \(adapter_config\.json\) that no training' train lora.json --output foreign

ok models show tuned
out_has '^adapter +LoRA$'
out_has '^rank +2$'
out_has '^alpha +4$'
out_has '^scale +2 '
out_has '^targets +model\.layers\.0\.self_attn\.q_proj$'
out_has '^linears +27$'
out_has '^files +adapter_model\.safetensors, '
err_empty
ok models show tuned --json
json out adapter lora
json out rank 2
json out scale 2
json out linears 27
json out tensors 54
json out dtype f32
json out targets.0 model.layers.0.self_attn.q_proj

ok forecast series.jsonl -n 8 -m ./base --json --quiet
mv out plain
ok forecast series.jsonl -n 8 -m ./base --adapter tuned --json --quiet
mv out adapted
cmp -s plain adapted && complain 'the adapter changes nothing'
ok models merge ./base tuned -o merged
err_empty
[ -s out ] && complain 'merge has an answer'
ok models show merged --json
json out parameters 51120
json out dtype f32
ok forecast series.jsonl -n 8 -m ./merged --json --quiet
tr ',[' '\n\n' <adapted | grep -E '^-?[0-9.]+' >adapted.numbers
tr ',[' '\n\n' <out | grep -E '^-?[0-9.]+' >merged.numbers
paste adapted.numbers merged.numbers | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 2e-4) bad = 1; n++ } END { exit bad || n < 24 }' ||
    complain "merged and adapted differ: $(paste adapted.numbers merged.numbers | head -3)"
ok forecast evaluate "$TESTS/../assets/samples/retail_sales.csv" -n 8 -m ./base --adapter tuned --context 32 --quiet
ok forecast backtest series.jsonl -n 8 -m ./base --adapter tuned --quiet
ok models show ./base --usage series.jsonl --adapter tuned --json --quiet

# What does not work.
fails 'none: no such folder' forecast series.jsonl -n 1 -m ./base --adapter none
fails 'base: no adapter_config\.json in it' forecast series.jsonl -n 1 -m ./base --adapter base
fails 'tuned: tensor base_model\.model\.model\.layers\.0.* needs \[' forecast series.jsonl -n 1 --adapter tuned
fails 'would replace its base' models merge ./base tuned -o base
fails 'foreign: no adapter_model\.safetensors' models show foreign
# A merge replaces nothing, follows no link to a model, and leaves nothing behind where it fails.
fails 'merged: holds config\.json already' models merge ./base tuned -o merged
fails 'tuned: holds adapter_config\.json already' models merge ./base tuned -o tuned
mkdir linked
ln -s ../base/model.safetensors linked/model.safetensors
fails 'linked: holds model\.safetensors already' models merge ./base tuned -o linked
cmp -s base/model.safetensors "$MODEL/model.safetensors" || complain 'the base has changed'
fails 'foreign: no adapter_model\.safetensors' models merge ./base foreign -o unmade
absent unmade
cp -r tuned dora
sed 's/"bias": "none"/"bias": "none", "use_dora": true/' tuned/adapter_config.json >dora/adapter_config.json
fails 'use_dora is set' forecast series.jsonl -n 1 -m ./base --adapter dora
fails 'use_dora is set' models show dora
usage 'a model or an adapter is missing' models merge ./base -o x
usage '\-\-output DIR is missing' models merge ./base tuned
