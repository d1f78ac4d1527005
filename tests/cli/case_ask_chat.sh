# moezoo ask --chat: turns from a pipe, what the cache keeps, commands, signals.
T=$TESTS/golden/ask-tiny
ALL='abcdefghijklmnopqrstuvwxyzé😀.'
XDG_STATE_HOME=$work/state
export XDG_STATE_HOME

printf 'one\n\ntwo \\\nlines\n/reset\nthree\n/quit\nnever\n' >turns
INPUT=turns
ok ask --chat -m "$T"
printf '%s\n%s\n%s\n' "$ALL" "$ALL" "$ALL" >expected
same out expected
err_empty
absent state # no terminal, no history

# Only new turns are read: the cache holds the first turn and its answer, 22 + 33 tokens.
ok ask --chat -m "$T" --json
lines out 3
sed -n 1p out >turn1
sed -n 2p out >turn2
sed -n 3p out >turn3
json turn1 tokens.prompt 22
json turn1 tokens.reused 0
json turn2 tokens.reused 55
json turn3 tokens.prompt 24
json turn2 answer "$ALL"
prompt2=$("$CLI_JSON" tokens.prompt <turn2)
[ "$prompt2" -eq $((55 + 1 + 1 + 1 + 5 + 10 + 1 + 1 + 1 + 10)) ] || complain "the second prompt has $prompt2 tokens"

# A question on the line is the first turn; a system text is in front of all.
INPUT=/dev/null
ok ask 'one' --chat -m "$T" --json --system 'Be brief.'
lines out 1
json out tokens.prompt 41
printf '/system Be brief.\none\n/system\none\n' >turns
INPUT=turns
ok ask --chat -m "$T" --json
sed -n 1p out >turn1
sed -n 2p out >turn2
json turn1 tokens.prompt 41
json turn2 tokens.prompt 22

# Bad turns are told, the others go on, and the exit code says so.
printf 'caf\351\none\n/usr/bin/env is a path\n/nosuch\ntwo\n' >turns
part ask --chat -m "$T" --quiet
lines out 3
lines err 2
err_has 'moezoo ask: byte 3 of the turn is no UTF-8'
err_has 'unknown command "/nosuch", expected /reset, /system TEXT or /quit'

# A conversation that outgrows its context: told, or its oldest turns go.
printf 'one\ntwo\nthree\nfour\n' >turns
part ask --chat -m "$T" -c 100 --json --quiet
lines out 2
sed -n 2p out >turn2
json turn2 stopped length
err_has 'the prompt has [0-9]+ tokens, the context room for 100'
ok ask --chat -m "$T" -c 100 --json --quiet --context-shift
lines out 4
sed -n 4p out >turn4
json turn4 answer "$ALL"
json turn4 tokens.prompt 82

# Ctrl-C while it waits ends nothing; SIGTERM does.
what='moezoo ask --chat and signals'
mkfifo pipe
"$PROGRAM" ask --chat -m "$T" --quiet <pipe >out 2>err &
child=$!
exec 3>pipe
echo one >&3
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s out ] && break
    sleep 0.1
done
kill -INT $child
sleep 0.2
echo two >&3
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(wc -l <out)" -eq 2 ] && break
    sleep 0.1
done
lines out 2
kill -TERM $child
wait $child
code=$?
[ $code -eq 0 ] || complain "exit code $code after SIGTERM"
exec 3>&-
INPUT=/dev/null

# SIGINT at any moment: an answer, or one line and exit code 1, or the end that the system gives.
what='moezoo ask and SIGINT'
for delay in 0 0.001 0.002 0.003 0.004 0.006 0.01 0.02; do
    "$PROGRAM" ask 'Hi' -m "$T" --quiet -n 100000 --temperature 100 --raw -o late.txt >out 2>err &
    child=$!
    sleep $delay
    kill -INT $child 2>/dev/null
    wait $child
    code=$?
    case $code in
    0 | 1 | 130) ;;
    *) complain "exit code $code after SIGINT" ;;
    esac
    [ "$(ls -a | grep -c 'late.txt.')" -eq 0 ] || complain 'a temporary file is left'
done
