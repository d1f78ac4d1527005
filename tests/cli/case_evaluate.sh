# moezoo forecast evaluate: the protocol of the published tables.

# As long as the months of ETTh need, 20 of them, and longer: the rest is not used.
awk 'BEGIN {
    print "date,a,b"
    for (i = 0; i < 14500; i++) {
        y = sin(i * 3.14159265358979 / 12) + (i * 7919 % 101) / 100
        printf "%d-%02d-%02d %02d:00,%.6f,%.6f\n", 2000 + int(i / 8064), int(i / 672) % 12 + 1, int(i / 24) % 28 + 1, i % 24, y, 3 * y - 7
    }
}' >ETTh1-like.csv

# Windows: of every column one for each test row but the last horizon, every stride of them. The dates of this file have
# a gap at the end of each month: rows count as they stand.
e() {
    ok forecast evaluate ETTh1-like.csv -m "$MODEL" --quiet "$@"
}
e -n 96 --stride 2784
out_has '^data       ETTh1-like\.csv: 2 columns, test rows 11520 to 14399$'
out_has '^model      tiny, context 512, horizon 96$'
out_has '^windows    2 \(every 2784\), '
out_lacks 'published'
e -n 96 --stride 2783 --json
json out windows 4
json out protocol ett
cut -d, -f1,2 ETTh1-like.csv >etth-a.csv
one() {
    ok forecast evaluate etth-a.csv -m "$MODEL" --quiet --json "$@"
}
one -n 192 --stride 2688
json out windows 1
json out context 1024
one -n 192 --stride 2687
json out windows 2
one -n 336 --stride 2544
json out windows 1
json out context 2048
one -n 720 --stride 2160
json out windows 1
json out context 3072
e -n 10 --stride 1000 --json -c 20
json out context 20
e -n 10 --stride 1000 --json
json out context 40

# Columns are scaled by their own training rows: a column of its own scale has the same scores.
mv out both.json
one -n 10 --stride 1000
score() {
    sed 's/.*"mse":\([0-9.]*\).*/\1/' "$1"
}
awk -v a="$(score out)" -v b="$(score both.json)" 'BEGIN { d = a / b - 1; exit d * d < 1e-10 && a > 0 ? 0 : 1 }' ||
    complain "mse $(score out) of one column, $(score both.json) of two"

# Other names: seven tenths train, two tenths test.
head -1001 etth-a.csv >other.csv
ok forecast evaluate other.csv -m "$MODEL" -n 10 --stride 190 --quiet
out_has '1 columns, test rows 800 to 999$'
out_has '^windows    1 '
ok forecast evaluate other.csv -m "$MODEL" -n 10 --stride 189 --json --quiet
json out windows 2

# One window by hand: rows 760 to 799 in units of the training rows forecast the ten after them.
tail -n +2 other.csv | awk -F, '
    NR <= 700 { sum += $2; squares += $2 * $2 }
    NR == 700 { mean = sum / 700; scale = sqrt(squares / 700 - mean * mean); print "a" >"context.csv" }
    NR > 760 && NR <= 800 { printf "%.17g\n", ($2 - mean) / scale >"context.csv" }
    NR > 800 && NR <= 810 { printf "%.17g\n", ($2 - mean) / scale >"truth" }'
ok forecast context.csv -m "$MODEL" -n 10 --normalize none --format csv --quiet
tail -n +2 out | cut -d, -f3 | paste -d, - truth >pairs
ok forecast evaluate other.csv -m "$MODEL" -n 10 --stride 190 --json --quiet
awk -F, -v mse="$(score out)" '{ d = $1 - $2; sum += d * d } END { r = sum / NR / mse - 1; exit NR == 10 && r * r < 1e-10 ? 0 : 1 }' pairs ||
    complain "mse $(score out), by hand $(awk -F, '{ d = $1 - $2; sum += d * d } END { print sum / NR }' pairs)"

# Bad input.
head -5000 etth-a.csv >etth-short.csv
fails 'etth-short\.csv: 4999 rows, the protocol.s split needs 14400' forecast evaluate etth-short.csv -m "$MODEL" -n 96
fails 'other\.csv: no window fits: 200 test rows after 800, horizon 200, context 800' forecast evaluate other.csv -m "$MODEL" -n 200
fails 'other\.csv: no window fits: .* context 801' forecast evaluate other.csv -m "$MODEL" -n 10 -c 801
sed '500s/,.*/,/' other.csv >gap.csv
fails 'gap\.csv: column "a", data row 499: a missing value' forecast evaluate gap.csv -m "$MODEL" -n 10
usage '--horizon N is missing' forecast evaluate other.csv
usage 'FILE is missing' forecast evaluate -n 10
usage '--stride: 0 is outside' forecast evaluate other.csv -n 10 --stride 0
