# moezoo ask on a tiny model that answers everything with the alphabet, three more characters and an end token.
T=$TESTS/golden/ask-tiny
ALL='abcdefghijklmnopqrstuvwxyzé😀.'

# said EXPECTED: the answer is this text and a line end.
said() {
    printf '%s\n' "$1" >expected
    same out expected
}

ok ask 'Who are you?' -m "$T"
said "$ALL"
err_has '^[0-9]+ tokens read in [0-9.e-]+ s \([0-9.e+]+/s\), 33 written in [0-9.e-]+ s \([0-9.e+]+/s\), loaded in '
lines err 1
ok ask 'Who are you?' --model "$T" --quiet --threads 1 --isa scalar --precision f32
said "$ALL"
err_empty
ok ask 'Who are you?' -m "$T" --quiet --precision bf16 --kv-type q8_0
said "$ALL"
ok ask 'Who are you?' -m "$T" --quiet --kv-type f16 --seed 5 --top-k 1 --temperature 3
said "$ALL"
ok ask 'Who are you?' -m "$T" --quiet --temperature 1 --top-p 0.01
said "$ALL"
ok ask 'Who are you?' -m "$T" --quiet --temperature 1 --min-p 1
said "$ALL"

# A seed is the same answer each time, another one another.
ok ask 'Who are you?' -m "$T" --quiet --temperature 50 --seed 1 -n 20 --json
"$CLI_JSON" answer <out >one
ok ask 'Who are you?' -m "$T" --quiet --temperature 50 --seed 1 -n 20 --json --threads 2
"$CLI_JSON" answer <out >again
same one again
ok ask 'Who are you?' -m "$T" --quiet --temperature 50 --seed 2 -n 20 --json
"$CLI_JSON" answer <out >again
cmp -s one again && complain 'two seeds with one answer'

# Where it stops.
ok ask 'Hi' -m "$T" --json --quiet
json out model ask-tiny
json out answer "$ALL"
json out stopped end
json out tokens.answer 33
json out tokens.prompt 21
for key in load_ms prefill_ms decode_ms prefill_tps decode_tps; do
    out_has "\"$key\":[0-9]"
done
lines out 1
ok ask 'Hi' -m "$T" --json --quiet -n 5
json out answer abcde
json out stopped length
json out tokens.answer 5
ok ask 'Hi' -m "$T" --json --quiet --stop xyz --stop cde --stop def
json out answer ab
json out stopped stop
json out tokens.answer 5
ok ask 'Hi' -m "$T" --quiet --stop '😀' # of four tokens
said 'abcdefghijklmnopqrstuvwxyzé'
ok ask 'Hi' -m "$T" --quiet --stop '.x' # may begin at the end, and does not
said "$ALL"
ok ask 'Hi' -m "$T" --quiet -n 27 # half a character
said 'abcdefghijklmnopqrstuvwxyz�'

# What goes in: arguments, standard input, templates, plain text.
printf 'Hi\r\n' >question
INPUT=question
ok ask - -m "$T" --quiet --json
json out tokens.prompt 21
INPUT=/dev/null
ok ask 'Hi' -m "$T" --quiet --json --system 'Be brief.'
json out tokens.prompt 40
ok ask 'Hi' -m "$T" --quiet --json --template none
json out tokens.prompt 2
err_empty
ok ask 'Hi' -m "$T" --json --template none
err_has 'ask-tiny has no chat template; the text is carried on as it stands'
ok ask '<|im_start|>Hi' -m "$T" --quiet --json --raw
json out tokens.prompt 3
ok ask '<|im_start|>Hi' -m "$T" --quiet --json # a question forges no control token
json out tokens.prompt 33
ok ask -m "$T" --quiet -- --help
said "$ALL"

# Files.
ok ask 'Hi' -m "$T" --quiet -o answer.txt
[ -s out ] && complain 'the answer is on standard output as well'
printf '%s\n' "$ALL" >expected
same answer.txt expected
fails 'the prompt has 21 tokens, the context room for 10 and an answer; --context allows up to 256' ask 'Hi' -m "$T" -c 10 -o answer.txt
same answer.txt expected
fails 'No such file|nowhere' ask 'Hi' -m "$T" -o nowhere/answer.txt
fails 'No space|full' ask 'Hi' -m "$T" --quiet -o /dev/full
what='moezoo ask to a full disk'
"$PROGRAM" ask 'Hi' -m "$T" --quiet >/dev/full 2>err && complain 'a full disk looks like success'
lines err 1
what='moezoo ask to a closed output'
"$PROGRAM" ask 'Hi' -m "$T" --quiet 2>err >&- && complain 'a closed output looks like success'
lines err 1

# A full context.
ok ask 'Hi' -m "$T" --json -c 30
json out stopped length
json out tokens.answer 10
json out answer abcdefghij
err_has 'the context of 30 tokens is full; a larger --context or --context-shift'
ok ask 'Hi' -m "$T" --json --quiet -c 30 --context-shift
json out answer "$ALL"
json out stopped end

# Wrong usage, nothing looked at.
usage 'no question given; usage: moezoo ask' ask -m "$T"
usage 'the question is empty' ask '' -m "$T"
usage 'the question is empty' ask '  ' -m "$T"
usage 'byte 1 of the question is no UTF-8' ask "$(printf 'x\377')" -m "$T"
usage 'byte 0 of the --system text is no UTF-8' ask x --system "$(printf '\377')" -m "$T"
usage 'no model given: -m takes .* tools/get-models' ask 'Hi'
usage '"there" is one argument too many' ask Hi there -m "$T"
: >photo.JPG
usage 'question missing: "photo.JPG" is a picture' ask photo.JPG -m "$T"
usage '--stop: the value is empty' ask Hi -m "$T" --stop ''
usage '--temperature: -1 is outside 0 to 100' ask Hi -m "$T" --temperature -1
usage '--temperature: "hot" is not a number' ask Hi -m "$T" --temperature hot
usage '--temperature: "nan" is not a number' ask Hi -m "$T" --temperature nan
usage 'temperature: 1e-09 is neither 0 nor in' ask Hi -m "$T" --temperature 1e-9
usage '--top-p: 1.5 is outside 0 to 1' ask Hi -m "$T" --top-p 1.5
usage '--min-p: 2 is outside' ask Hi -m "$T" --min-p 2
usage '--top-k: -1 is outside' ask Hi -m "$T" --top-k -1
usage 'repeat penalty: 0 is outside' ask Hi -m "$T" --repeat-penalty 0
usage '--max-tokens: 0 is outside' ask Hi -m "$T" -n 0
usage '--max-tokens: 99999999999999999999 is outside' ask Hi -m "$T" -n 99999999999999999999
usage '--context: 99999999999 is outside' ask Hi -m "$T" -c 99999999999
usage '--precision: "f16" is not one of auto\|f32\|bf16' ask Hi -m "$T" --precision f16
usage '--raw goes with none of' ask Hi -m "$T" --raw --system x
usage '--chat answers on standard output' ask --chat -m "$T" -o x
usage '--chat reads standard input itself' ask - --chat -m "$T"

# What fails at run time.
fails 'vicuna.*chatml' ask Hi -m "$T" --template nosuch
fails 'model "nomodel": no such folder' ask Hi -m nomodel
fails 'a file, expected' ask Hi -m question
fails 'forecast' ask Hi -m "$MODEL"
printf 'a\000b' >nul
INPUT=nul
fails 'standard input: byte 1 of the question is a NUL' ask - -m "$T"
printf 'caf\351' >latin1
INPUT=latin1
fails 'standard input: byte 3 of the question is no UTF-8' ask - -m "$T"
printf '\n' >blank
INPUT=blank
fails 'standard input: the question is empty' ask - -m "$T"
INPUT=/dev/null
fails 'standard input: the question is empty' ask - -m "$T"

# A checkpoint without a tokenizer, and one whose tokenizer has more tokens than the model.
mkdir bare larger
cp "$T/config.json" "$T/model.safetensors" bare/
fails 'tokenizer' ask Hi -m bare
cp "$T"/*.json "$T/model.safetensors" larger/
sed 's/"id": 258/"id": 300/' "$T/tokenizer.json" >larger/tokenizer.json
fails 'larger: the tokenizer has 301 ids, the embedding 259 rows' ask Hi -m larger
# An unknown template in the checkpoint names --template.
mkdir strange
cp "$T"/*.json "$T/model.safetensors" strange/
sed 's/<|im_start|>/[[/g; s/<|im_end|>/]]/g' "$T/tokenizer_config.json" | sed 's/"eos_token": "[^"]*"/"eos_token": "<|im_end|>"/' >strange/tokenizer_config.json
fails '--template' ask Hi -m strange
ok ask Hi -m strange --template chatml --quiet
said "$ALL"
# A GGUF file that is none.
printf 'GGUF' >short.gguf
fails 'short.gguf' ask Hi -m short.gguf
printf 'hello' >other.gguf
fails 'a file, expected the folder that holds config.json and the weights, or a GGUF file' ask Hi -m other.gguf
