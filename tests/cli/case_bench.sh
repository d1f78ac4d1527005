# The measurements are there and make sense; no speed is expected.
ok bench forecast -m "$MODEL" -c 40 -n 9 --series 3 --repeat 2
out_has '^model +tiny \(time-moe, 51\.1 k parameters, f32\)$'
out_has '^machine +backend cpu, .* threads, precision f32$'
out_has '^work +3 series, context 40, horizon 9, 2 runs$'
out_has '^load +[0-9]'
out_has '^first forecast +[0-9]'
out_has '^run +[0-9.]+ s median, [0-9.]+ s fastest, [0-9.]+ s slowest$'
out_has '^peak memory +[0-9.]+ MiB$'
out_has '^linear +[0-9]+ '
out_has '^attention +[0-9]+ '
out_has '^outside ops '
ok bench forecast -m "$MODEL" -c 40 -n 9 --repeat 3 --json --precision bf16 -t 1 --isa scalar --seed 4 --quiet
err_empty
json out model tiny
json out precision bf16
json out isa scalar
json out threads 1
json out context 40
json out horizon 9
json out series 1
json out repeat 3
for key in load_s first_forecast_s median_s min_s max_s series_per_s points_forecast_per_s points_read_per_s peak_bytes; do
    out_has "\"$key\":[0-9]"
done
out_has '"op":"attention","seconds":'
fails 'model "nomodel"' bench forecast -m nomodel

# A step of training of a checkpoint (the fresh shapes are too large for a test): the same loss whether activations are kept or not, and on any number of threads.
ok bench train -m "$MODEL" -w 24 -b 3 --repeat 2
out_has '^model +tiny \(51\.1 k parameters, as stored\)$'
out_has '^work +3 windows of 24 points, recomputation off, 2 steps$'
out_has '^step +[0-9.]+ s median, [0-9.]+ s fastest, [0-9.]+ s slowest$'
out_has '^speed +[0-9]+ points/s, [0-9.]+ GFLOP/s, [0-9.]+% of a large product.s [0-9.]+$'
out_has '^peak memory +[0-9.]+ MiB, activations and their gradients [0-9.]+ '
out_has '^linear_backward +[0-9]+ '
out_has '^optimizer +2 '
out_has '^zeroing gradients +2 '
out_has '^outside ops '
loss=$(grep '^loss' out)
ok bench train -m "$MODEL" -w 24 -b 3 --repeat 2 -t 1
[ "$(grep '^loss' out)" = "$loss" ] || complain "another loss on one thread"
ok bench train -m "$MODEL" -w 24 -b 3 --repeat 2 --recompute
out_has '^work .* recomputation on'
[ "$(grep '^loss' out)" = "$loss" ] || complain "another loss with recomputation"
ok bench train -m "$MODEL" -w 24 -b 3 --repeat 1 --precision bf16 --isa scalar -t 1 --json --quiet
err_empty
json out model tiny
json out precision bf16
json out isa scalar
json out threads 1
json out window 24
json out batch 3
json out steps 1
json out recompute false
for key in median_s min_s max_s points_per_s gflops_per_s peak_gflops_per_s peak_share first_loss last_loss peak_bytes activation_bytes; do
    out_has "\"$key\":[0-9]"
done
out_has '"op":"linear_backward","seconds":'
fails 'model "nomodel"' bench train -m nomodel

# A language model: rates, bytes and ops of reading and writing.
TINY=$TESTS/golden/ask-tiny
ok bench llm -m "$TINY" -p 16,40 -n 8 --repeat 2
out_has '^model +ask-tiny \(llama, 2 layers, width 64\), 151\.4 KiB$'
out_has '^machine +backend cpu, .* threads, precision int8$'
out_has '^memory +peak [0-9.]+ MiB, of it keys and values of 40 tokens [0-9.]+ KiB \(f32\)$'
out_has '^prefill +16 tokens +[0-9.]+ tokens/s '
out_has '^prefill +40 tokens +[0-9.]+ tokens/s '
out_has '^decode +8 tokens +[0-9.]+ tokens/s '
out_has '^weights +[0-9.]+ KiB a token, [0-9.]+ GB/s$'
out_has '^attention +[0-9]+ '
out_has '^outside ops '
ok bench llm -m "$TINY" -p 20 -n 4 --context-depth 30 --repeat 3 --kv-type f16 --precision f32 -t 1 --json --quiet
err_empty
json out model ask-tiny
json out family llama
json out precision f32
json out kv_type f16
json out depth 30
json out prefill.runs.0.tokens 20
json out decode.runs.0.tokens 4
json out decode.runs 1
for key in load_s peak_bytes file_bytes kv_bytes median_s tokens_per_s bytes_per_token gb_per_s; do
    out_has "\"$key\":[0-9]"
done
ok bench llm -m "$TINY" -p 0 -n 2 --json
json out prefill.runs 0
usage 'expected -m MODEL or --shape FILE.json' bench llm
usage 'expected -m MODEL or --shape' bench llm -m "$TINY" --shape x.json
usage '--type goes with --shape' bench llm -m "$TINY" --type q4_0
usage '--prompt: expected whole numbers' bench llm -m "$TINY" -p 16,
usage '--prompt: expected whole numbers' bench llm -m "$TINY" -p x
usage '--prompt: 0 is outside' bench llm -m "$TINY" -p 16,0
usage '--prompt: more than 8' bench llm -m "$TINY" -p 1,2,3,4,5,6,7,8,9
fails 'nosuch.json' bench llm --shape nosuch.json
fails 'model "nomodel"' bench llm -m nomodel

# Random weights of a shape.
for type in q8_0 f32; do
    ok bench llm --shape "$TESTS/../assets/shapes/smollm2-135m.json" --type $type -p 4 -n 1 --repeat 1 --json --quiet
    json out family llama
    json out decode.runs.0.tokens 1
done
