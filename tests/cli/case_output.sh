# Where the answer goes: whole or not at all.
printf 'y\n7\n7\n7\n' >y.csv
ok forecast y.csv -n 2 -m "$MODEL" --json
cp out expected

ok forecast y.csv -n 2 -m "$MODEL" --json -o answer
same answer expected
[ ! -s out ] || complain "an answer on standard output too"
ok forecast y.csv -n 2 -m "$MODEL" --json -o -
same out expected

# The old file survives whatever goes wrong, and nothing is left beside it.
mkdir d
echo old >d/answer
cp d/answer old
fails 'is not a number' forecast "$TESTS/cli/run.sh" --columns '#1' -n 2 -m "$MODEL" -o d/answer
same d/answer old
fails 'No such file' forecast nofile -n 2 -m "$MODEL" -o d/answer
same d/answer old
fails 'no such folder' forecast y.csv -n 2 -m nomodel -o d/answer
same d/answer old
[ "$(ls d)" = answer ] || complain "left behind: $(ls d)"
ok forecast y.csv -n 2 -m "$MODEL" --json -o d/answer
same d/answer expected
[ "$(ls d)" = answer ] || complain "left behind: $(ls d)"
ln -s d/answer link
echo old >d/answer
ok forecast y.csv -n 2 -m "$MODEL" --json -o link
same d/answer expected
[ -L link ] || complain "the link was replaced"
ok forecast d/../y.csv -n 2 -m "$MODEL" --format csv -o y.csv
lines y.csv 3
printf 'y\n7\n7\n7\n' >y.csv

# A disk that is full, as a device and as a limit on the size of files.
fails '/dev/full: ' forecast y.csv -n 2 -m "$MODEL" --quiet -o /dev/full
what='moezoo forecast >/dev/full'
"$PROGRAM" forecast y.csv -n 2 -m "$MODEL" --quiet >/dev/full 2>err && complain "a full disk looks like success"
err_has 'No space left'
fails 'No such file|Permission denied' forecast y.csv -n 2 -m "$MODEL" --quiet -o nofolder/answer
what='moezoo forecast -o FILE with a limit on the size of files'
echo old >d/answer
(
    ulimit -f 8
    "$PROGRAM" forecast y.csv -n 60000 -m "$MODEL" --quiet -o d/answer >out 2>err
)
[ $? -eq 1 ] || complain "exit code is not 1"
err_has 'File too large'
same d/answer old
[ "$(ls d)" = answer ] || complain "left behind: $(ls d)"

# A reader that goes away ends the work, quietly.
what='moezoo forecast | true'
{
    "$PROGRAM" forecast y.csv -n 60000 -m "$MODEL" --quiet --format csv 2>err
    echo $? >code
} | true
[ "$(cat code)" -eq 1 ] || complain "exit code $(cat code), expected 1"
err_empty

ok forecast y.csv -n 2 -m "$MODEL" --json -o /dev/null
[ -c /dev/null ] || complain "/dev/null was replaced"
