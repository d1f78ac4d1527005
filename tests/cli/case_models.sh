# Finding, listing and showing models; checkpoints that are none.
printf 'y\n7\n7\n' >y.csv

ok models show "$MODEL"
out_has '^family +time-moe$'
out_has '^parameters +51120 '
out_has '^active per point +33624 '
out_has '^experts a layer +5 routed, 2 of them per point, 1 shared$'
out_has '^layers +3$'
out_has '^width +24$'
out_has '^positions +4096 '
out_has '^weights +f32, 94 tensors, '
out_has 'model\.safetensors'
err_empty
ok models show "$TESTS/golden/time-moe/tiny-sharded" --json
json out family time-moe
json out parameters 51120
json out active_parameters 33624
json out experts.routed 5
json out experts.per_point 2
json out experts.shared 1
json out dtype f32
json out max_positions 4096
json out files 3
json out files.2.name model-00003-of-00003.safetensors
ok models show "$TESTS/golden/time-moe/tiny-bf16" --json
json out dtype bf16
ok models show "$TESTS/golden/time-moe/tiny-bin" --json
json out files.0.name pytorch_model.bin
ok models show "$TESTS/golden/time-moe/dense" --json
json out experts.routed 0

# The places, in order: --models-dir, the user's folder, beside the program.
mkdir -p dir user/moezoo/models .local/share/moezoo/models bin share/moezoo/models
cp -r "$MODEL" dir/alpha
cp -r "$TESTS/golden/time-moe/dense" user/moezoo/models/alpha
cp -r "$MODEL" user/moezoo/models/beta
cp -r "$MODEL" .local/share/moezoo/models/gamma
cp -r "$MODEL" share/moezoo/models/delta
cp "$PROGRAM" bin/moezoo
ORIGINAL=$PROGRAM
PROGRAM=$work/bin/moezoo
fails 'model "beta": no such folder, and no model of that name in ' models show beta
ok models show gamma
ok models show delta
XDG_DATA_HOME=$work/user
export XDG_DATA_HOME
ok models show beta
fails 'no model of that name' models show gamma
ok models show alpha --json
json out experts.routed 0
ok models show alpha --json --models-dir dir
json out experts.routed 5
ok forecast y.csv -n 1 -m alpha --models-dir dir --json
json out model alpha
ok models list --json --models-dir dir
json out models.0.name alpha
json out models.0.family time-moe
json out models.0.job forecast
json out models.0.parameters 51120
json out models.1.name beta
out_has '"delta"'
out_lacks '"gamma"'
ok models list --models-dir dir
out_has '^alpha +time-moe +forecast +51\.1 k +33\.6 k +dir/alpha$'
unset XDG_DATA_HOME
PROGRAM=$ORIGINAL

# Folders that hold no usable checkpoint.
mkdir -p bad/empty bad/unknown bad/wrong bad/broken bad/weightless
fails 'bad/empty: no config\.json' models show bad/empty
fails 'model "bad/none"' models show bad/none
fails 'a file, expected the folder' models show y.csv
echo '{"model_type": "nosuch"}' >bad/unknown/config.json
fails 'model_type is "nosuch", known are: time_moe' models show bad/unknown
echo '{"model_type": 7}' >bad/wrong/config.json
fails 'config\.json.*model_type' models show bad/wrong
echo '{"model_type": ' >bad/broken/config.json
fails 'config\.json.*line 2' models show bad/broken
cp "$MODEL/config.json" bad/weightless/
fails 'bad/weightless' models show bad/weightless
fails 'bad/weightless' forecast y.csv -n 1 -m bad/weightless
cp -r "$MODEL" bad/cut
head -c 5000 "$MODEL/model.safetensors" >bad/cut/model.safetensors
fails 'bad/cut/model\.safetensors' forecast y.csv -n 1 -m bad/cut
part models list --models-dir bad --json
out_has '"name":"unknown".*"error":.*nosuch'
out_lacks '"empty"'

# A language model: its heads, types, tokenizer and template; in a folder, or alone as a GGUF file.
TINY=$TESTS/golden/ask-tiny
ok models show "$TINY"
out_has '^job +ask$'
out_has '^context +256 tokens$'
out_has '^heads +4, 2 of keys and values, 16 wide$'
out_has '^vocabulary +259 tokens$'
out_has '^tensor types +bf16 21$'
out_has '^bits per weight +16\.00$'
out_has '^tokenizer +byte-level BPE, 259 tokens$'
out_has '^chat template +chatml$'
ok models show "$TINY" --json
json out language.heads 4
json out language.types.bf16 21
json out language.tokenizer 'byte-level BPE'
json out language.chat_template chatml
json out language.context 256
mkdir -p shelf/bare
cp "$TINY/config.json" "$TINY/model.safetensors" shelf/bare/
ok models show shelf/bare
out_has '^tokenizer +none: '
mkdir -p shelf/boxed shelf/notes
ok models convert "$TINY" shelf/alone.gguf
cp shelf/alone.gguf shelf/boxed/anything.gguf
ok models list --models-dir shelf
out_has '^alone +llama +ask '
out_has '^boxed +llama +ask '
out_has '^bare +llama +ask '
out_lacks 'notes'
for name in alone boxed; do
    ok models show "$name" --models-dir shelf
    out_has '^chat template +chatml$'
    ok ask Hi -m "$name" --models-dir shelf --quiet
    out_has '^abcdefghijklmnopqrstuvwxyzé😀\.$'
done
ok ask Hi -m shelf/boxed --quiet --json
json out model anything
fails 'which cannot forecast' forecast y.csv -n 3 -m "$TINY"
