# The default model answers without an option.
printf 'y\n' >wave.csv
i=0
while [ $i -lt 96 ]; do
    echo $((i % 12 * (12 - i % 12))) >>wave.csv
    i=$((i + 1))
done
ok forecast wave.csv --horizon 12
out_has '^model patchmoe-5m, horizon 12$'
out_has '^ +12 +-?[0-9]'
ok forecast wave.csv --horizon 12 --json --quiet
json out model patchmoe-5m
json out series.0.forecast 12
json out series.0.warnings 0
mv out expected
ok forecast wave.csv --horizon 12 --json --quiet -m patchmoe-5m
same out expected
ok models list
out_has '^patchmoe-5m +patch-moe +forecast '

# Longer than what the model has seen in training: it answers, and says so.
cp -r "$MODEL" seen
sed 's/"max_position_embeddings": 4096/"max_position_embeddings": 100/' "$MODEL/config.json" >seen/config.json
ok forecast wave.csv -m seen --horizon 36 --context 65 --json --quiet
json out series.0.forecast 36
json out series.0.warnings.0 '65 values and 36 steps are more than the 100 positions the model was trained for'
ok forecast wave.csv -m seen --horizon 35 --context 65 --json --quiet
json out series.0.warnings 0
