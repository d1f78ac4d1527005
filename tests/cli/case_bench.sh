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
