# The four forms of the answer, on series whose forecast is known without the model.
cat >two.jsonl <<'END'
{"id": "five", "sequence": [5, 5, 5, 5]}
{"id": "a,\"b\"", "sequence": [-0.1]}
END

ok forecast two.jsonl -n 2 -m "$MODEL" --json
cat >expected <<'END'
{"model":"tiny","horizon":2,"series":[
{"id":"five","forecast":[5,5],"warnings":["all values are equal: the value is repeated (constant forecast)"]},
{"id":"a,\"b\"","forecast":[-0.1,-0.1],"warnings":["a single value says nothing about the future: it is repeated (naive forecast)"]}
]}
END
same out expected
json out series 2
json out series.1.id 'a,"b"'
err_has '^2 series, 5 points in [0-9.e-]+ s: [0-9.e+]+ series/s$'

ok forecast two.jsonl -n 2 -m "$MODEL" --format jsonl --quiet
err_empty
lines out 2
head -n 1 out >line
json line forecast.1 5
json line warnings 1

ok forecast two.jsonl -n 2 -m "$MODEL" --format csv
cat >expected <<'END'
id,step,forecast
five,1,5
five,2,5
"a,""b""",1,-0.1
"a,""b""",2,-0.1
END
same out expected
err_has 'warning: series "five": all values are equal'
ok forecast two.jsonl -n 2 -m "$MODEL" --format csv --quiet
same out expected
err_empty

ok forecast two.jsonl -n 2 -m "$MODEL"
out_has '^model tiny, horizon 2$'
out_has '^five \(4 values\)$'
out_has '^ +1 +5\.00000$'
out_has 'warning: all values are equal'

# A name cannot steer the terminal, and is kept as it is in JSON.
printf '{"id": "\\u001b[31mred", "sequence": [1, 1]}\n' >red.jsonl
ok forecast red.jsonl -n 1 -m "$MODEL"
out_has '^\?\[31mred'
ok forecast red.jsonl -n 1 -m "$MODEL" --json
out_has '"\\u001b\[31mred"'

# Every format has all steps of a horizon that no head of the model covers alone.
printf 'y\n' >wave.csv
i=0
while [ $i -lt 60 ]; do
    echo $((i % 12 * (12 - i % 12))) >>wave.csv
    i=$((i + 1))
done
ok forecast wave.csv -n 105 -m "$MODEL" --json --quiet
json out series.0.forecast 105
json out series.0.warnings 0
json out horizon 105
ok forecast wave.csv -n 105 -m "$MODEL" --format csv --quiet
lines out 106
ok forecast wave.csv -n 105 -m "$MODEL" --quiet
out_has '^ +105 +-?[0-9]'
out_lacks warning
