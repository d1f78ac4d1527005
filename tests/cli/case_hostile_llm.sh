# Language models and lines that are wrong on purpose: one line, exit code 1, nothing half written.
T=$TESTS/golden/ask-tiny
LLM=$TESTS/golden/llm
long=$(printf '%5000s' '' | tr ' ' y)

ok models convert "$T" good.gguf --quiet

# with FROM TO FILE: FILE with one text in place of another of the same length.
with() {
    LC_ALL=C sed "s/$1/$2/g" good.gguf >"$3"
}

# A file that is no whole model is not converted.
with 'blk\.1\.ffn_up' 'blk.1.ffn_uq' lacks.gguf
fails 'lacks\.gguf: .*missing: blk\.1\.ffn_up\.weight' ask Hi -m lacks.gguf
fails 'lacks\.gguf: .*missing: blk\.1\.ffn_up\.weight' models convert lacks.gguf folder
fails 'lacks\.gguf: .*missing: blk\.1\.ffn_up\.weight' models convert lacks.gguf made.gguf
fails 'lacks\.gguf: .*missing: blk\.1\.ffn_up\.weight' models quantize lacks.gguf made.gguf --type q8_0
absent folder
absent made.gguf

# What fails behind the weights takes them along.
with '<|im_start|>' '<|im_\xfftart|>' text.gguf
fails 'text\.gguf' models convert text.gguf folder
absent folder
mkdir there
echo mine >there/notes
fails 'text\.gguf' models convert text.gguf there
[ "$(ls -A there)" = notes ] || complain "there holds $(ls -A there)"
echo old >there/model.safetensors
fails 'there: holds model\.safetensors already; a converted checkpoint needs another folder' models convert good.gguf there
[ "$(cat there/model.safetensors)" = old ] || complain 'the old weights are gone'
usage 'a model or what to write is missing' models convert good.gguf ''

# Weights that are not numbers: the embedding is the last tensor, 259 rows of 64 bf16.
size=$(wc -c <good.gguf)
{
    head -c $((size - 33152)) good.gguf
    head -c 33152 /dev/zero | tr '\0' '\377'
} >nan.gguf
fails 'token 1 of the answer: the model.s logits are not finite; its weights are damaged' ask Hi -m nan.gguf --quiet
absent answer.txt
fails 'logits are not finite' ask Hi -m nan.gguf --quiet --temperature 1 -o answer.txt
absent answer.txt
echo '[1, 2, 3]' >ids.json
fails 'token 1 of the text: the model.s logits are not finite' models perplexity nan.gguf --ids ids.json --quiet

# More context than the model was made for would be gigabytes of tables.
fails 'a context of 16777216 tokens, this model was made for 256; --context takes no more' ask Hi -m "$T" -c 16777216

# Long values leave room for what was expected.
mkdir odd
ln -s "$LLM/llama/model.safetensors" odd/model.safetensors
for field in model_type hidden_act; do
    sed "s/\"$field\": \"[a-z]*\"/\"$field\": \"$long\"/" "$LLM/llama/config.json" >odd/config.json
    fails "odd/config\.json: $field is \"y{64}\", known are: " models perplexity odd --ids ids.json
done

# A pipe that nobody writes to is no model, and is not waited for.
mkfifo pipe.gguf pipe
for name in pipe.gguf pipe; do
    what="moezoo ask -m $name"
    timeout 60 "$PROGRAM" ask Hi -m "$name" >out 2>err
    [ $? -eq 1 ] || complain 'it is waited for'
    one_line "\"$name\": a file, expected the folder"
done
