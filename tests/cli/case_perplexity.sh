# moezoo models perplexity: texts, ids, windows, and what is wrong.
T=$TESTS/golden/ask-tiny
printf 'abcdefghijklmnopqrstuvwxyz' >alphabet
printf 'qwertyuiopasdfghjklzxcvbnm' >keyboard

ok models perplexity "$T" alphabet
out_has '^perplexity 1[0-9.]* over 25 tokens in 1 window, [0-9.e-]+ s$'
err_empty
ok models perplexity "$T" alphabet --json --kv-type f16 --precision f32 -t 1
json out model ask-tiny
json out tokens 25
json out windows 1
for key in perplexity nll seconds; do
    out_has "\"$key\":[0-9]"
done
good=$("$CLI_JSON" perplexity <out)
ok models perplexity "$T" keyboard --json
bad=$("$CLI_JSON" perplexity <out)
awk "BEGIN { exit !($good < 1.1 && $bad > 100) }" || complain "perplexities $good and $bad"

# The same ids from a file, from standard input, in windows.
ok models perplexity "$T" alphabet --json
"$CLI_JSON" nll <out >nll
awk 'BEGIN { printf "["; for (i = 97; i < 123; i++) printf "%s%d", (i > 97 ? "," : ""), i; print "]" }' >ids.json
ok models perplexity "$T" --ids ids.json --json
"$CLI_JSON" nll <out >again
same nll again
INPUT=alphabet
ok models perplexity "$T" - --json
"$CLI_JSON" nll <out >again
same nll again
INPUT=/dev/null
ok models perplexity "$T" alphabet --json -c 8
json out tokens 25
json out windows 6

usage 'expected MODEL and FILE, or MODEL and --ids FILE' models perplexity "$T"
usage 'expected MODEL and FILE, or' models perplexity
usage 'expected MODEL and FILE, or' models perplexity "$T" alphabet --ids ids.json
fails 'alphabet2' models perplexity "$T" alphabet2
fails 'a text of 0 tokens has nothing to score' models perplexity "$T" -
fails 'a context of 3 tokens, expected at least 4' models perplexity "$T" alphabet -c 3
echo '[1, 2, 999]' >ids.json
fails 'token 2 of the text is 999, outside the vocabulary of 259' models perplexity "$T" --ids ids.json
echo '[1, -2]' >ids.json
fails 'ids.json: element 1 is no token id' models perplexity "$T" --ids ids.json
echo '{"a": 1}' >ids.json
fails 'ids.json: expected an array of token ids' models perplexity "$T" --ids ids.json
echo '[1,' >ids.json
fails 'ids.json' models perplexity "$T" --ids ids.json
mkdir bare
cp "$T/config.json" "$T/model.safetensors" bare/
fails 'tokenizer' models perplexity bare alphabet
echo '[1, 2, 3]' >ids.json
ok models perplexity bare --ids ids.json
