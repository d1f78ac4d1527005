# Writing language models in other types and formats.
LLM=$TESTS/golden/llm

ok models quantize "$LLM/llama3-rope" small.gguf --type q8_0
out_has '^tensor +shape +before +after +bits/value +rel\. error$'
out_has '^blk\.0\.attn_q\.weight +\[64, 64\] +bf16 +q8_0 +8\.500 +0\.00[0-9]+$'
out_has '^blk\.0\.attn_norm\.weight +\[64\] +bf16 +f32 +32\.000 +-$'
out_has '^rope_freqs\.weight +\[8\] +f32 +f32 '
out_has '^[0-9]+ tensors, [0-9]+ values: .* bits per value, relative error of what was converted 0\.00'
out_has '^the tokenizer was not converted: there is no tokenizer\.model and no tokenizer\.json$'
err_empty

# Rows that blocks do not divide take other types; what is kept stays.
ok models quantize "$LLM/llama3-rope" k.gguf --type q4_k --type-embeddings q6_k --keep '*.attn_v.weight' --json
json out output k.gguf
json out tensors.0.name blk.0.attn_k.weight
json out tensors.0.after q5_0
json out tensors.0.bits_per_value 5.5
json out totals.tensors 22
grep -q '"name":"token_embd.weight".*"after":"q8_0"' out || complain 'the embedding is not q8_0'
grep -q '"name":"blk.0.attn_v.weight".*"before":"bf16","after":"bf16"' out || complain 'attn_v was not kept'
grep -q '"name":"blk.0.ffn_down.weight".*"after":"f16"' out || complain 'rows of 88 are not f16'

# Roles: routed experts, routers.
ok models quantize "$LLM/mixtral" moe.gguf --type bf16 --type-experts f16 --json
grep -q '"name":"blk.0.ffn_up_exps.weight","shape":\[5,52,40\].*"after":"f16"' out || complain 'experts are not f16'
grep -q '"name":"blk.0.ffn_gate_inp.weight".*"after":"f32"' out || complain 'the router is not f32'
grep -q '"name":"blk.0.attn_q.weight".*"after":"bf16"' out || complain 'attention is not bf16'

# From GGUF to GGUF: the same types give the same bytes, others a warning.
ok models quantize small.gguf again.gguf --type q8_0 --quiet
same small.gguf again.gguf
ok models quantize small.gguf other.gguf --type q4_0
err_has '^moezoo models quantize: [0-9]+ tensors of the source are quantised already'

# There and back.
ok models convert "$LLM/llama3-rope" plain.gguf
ok models convert plain.gguf folder
out_has '^folder: config\.json, model\.safetensors$'
ok models convert folder plain2.gguf --json
json out totals.relative_error 0
ok models convert plain2.gguf folder2
same folder/model.safetensors folder2/model.safetensors
ok models convert small.gguf wide --type bf16 --json
json out tokenizer_note 'the file has no tokenizer'

# What does not work, and what it leaves.
usage 'models quantize: --type is missing' models quantize "$LLM/llama" x.gguf
usage 'x\.bin: the file to write must end in \.gguf' models quantize "$LLM/llama" x.bin --type q8_0
usage 'q3_k' models quantize "$LLM/llama" x.gguf --type q3_k
usage 'a model or the file to write is missing' models quantize "$LLM/llama" --type q8_0
fails '--keep nothing\* matches no tensor' models quantize "$LLM/llama" x.gguf --type q8_0 --keep 'nothing*'
fails 'model_type "time_moe" has no GGUF architecture' models quantize "$MODEL" x.gguf --type q8_0
fails 'folder: holds config\.json already' models convert plain.gguf folder
fails 'one of them must be' models convert "$LLM/llama" elsewhere
head -c 5000 plain.gguf >cut.gguf
fails 'cut\.gguf: ' models quantize cut.gguf x.gguf --type q8_0
fails 'cut\.gguf: ' models convert cut.gguf x
echo old >there.gguf
fails 'there\.gguf' models quantize there.gguf x.gguf --type q8_0
absent x.gguf
absent x
absent elsewhere
# A disk that fills up leaves the old file and nothing else.
cp small.gguf target.gguf
what='models quantize with little space'
(ulimit -f 40 && "$PROGRAM" models quantize plain.gguf target.gguf --type f32) >out 2>err && complain 'it succeeds'
err_has 'target\.gguf: cannot write'
same small.gguf target.gguf
fails '/dev/full' models quantize plain.gguf /dev/full/x.gguf --type f32
ls | grep -v -E '^(out|err|small|k|moe|again|other|plain|plain2|cut|there|target|folder|folder2|wide)(\.gguf)?$' && complain 'something was left'
ok models quantize small.gguf small.gguf --type q4_0 --quiet
ok models convert small.gguf last
