# Help, version, and words that are no command.
ok --version
out_has '^moezoo [0-9]+\.[0-9]+\.[0-9]+$'
out_has '^build: .+'
out_has '^cpu: .+'
out_has '^instruction set: (scalar|avx2|avx512|avx512-bf16|amx)$'
out_has '^backends: .*cpu.*reference'
err_empty

ok --help
out_has 'usage: moezoo COMMAND'
for command in ask forecast train models bench; do
    out_has "^  $command "
done
ok -h
out_has 'usage:'

ok forecast --help
out_has 'usage: moezoo forecast FILE'
for option in horizon columns context model models-dir normalize missing precision seed format json output baselines threads isa quiet help; do
    out_has "--$option( |\$)"
done
out_has 'default patchmoe-5m'
out_has '^examples:'
err_empty
ok ask --help
out_has 'usage: moezoo ask "QUESTION"'
for option in model models-dir chat system template raw context context-shift precision kv-type json output max-tokens temperature top-p top-k min-p repeat-penalty seed stop threads quiet; do
    out_has "--$option( |\$)"
done
out_has '^examples:'
ok models perplexity --help
ok bench llm --help
for option in model shape type prompt decode context-depth repeat precision kv-type seed json; do
    out_has "--$option( |\$)"
done
ok forecast backtest --help
out_has 'usage: moezoo forecast backtest FILE'
for option in horizon windows step season level quantiles per-series forecasts plot show format json output; do
    out_has "--$option( |\$)"
done
out_has '^examples:'
ok forecast --horizon 3 -h
out_has '^options:'
ok train --help
out_has 'usage: moezoo train RECIPE.json'
for option in set resume dry-run output json threads quiet; do
    out_has "--$option( |\$)"
done
ok models --help
out_has '^  models show '
ok models list --help
ok models show --help
ok bench --help
ok bench forecast --help
out_has 'default 512'
ok bench train --help
for option in model shape window batch repeat precision recompute seed json threads; do
    out_has "--$option( |\$)"
done

usage 'no command given' 
usage 'unknown command "forcast"; did you mean forecast\?' forcast
usage 'unknown command "xyzzy", expected one of: ask, forecast, train, models, bench' xyzzy
usage 'no command given, expected one of: list, show, merge, quantize, convert, perplexity' models
usage 'did you mean show' models shwo
usage 'no command given' bench
usage 'no model given' models show

what='moezoo --help >/dev/full'
"$PROGRAM" --help >/dev/full 2>err && complain "a full disk looks like success"
err_has '^moezoo: standard output: '
