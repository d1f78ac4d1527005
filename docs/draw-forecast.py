#!/usr/bin/env python3
"""Draws a monthly series and its forecast as SVG; docs/retail_sales.svg was made with

    build/moezoo forecast assets/samples/retail_sales.csv --horizon 12 --json --quiet |
        python3 docs/draw-forecast.py assets/samples/retail_sales.csv - > docs/retail_sales.svg

The CSV has a column of dates (YYYY-MM-DD) and one of values; the JSON is moezoo's answer.
"""
import csv
import json
import sys

MONTHS = 72  # of history shown
WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 46, 40
HISTORY, FORECAST, INK, GRID = "#0072B2", "#D55E00", "#333333", "#dddddd"  # Okabe and Ito


def read(csv_path, json_path):
    with open(csv_path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:][-MONTHS:]
    answer = json.load(sys.stdin if json_path == "-" else open(json_path, encoding="utf-8"))
    months = [int(d[:4]) * 12 + int(d[5:7]) - 1 for d, _ in rows]
    return months, [float(v) for _, v in rows], answer["series"][0]["forecast"], answer["model"]


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: draw-forecast.py SERIES.csv ANSWER.json|-")
    months, values, forecast, model = read(sys.argv[1], sys.argv[2])
    n = len(values) + len(forecast)
    low, high, step = 300e3, 550e3, 50e3
    if min(values + forecast) < low or max(values + forecast) > high:
        raise SystemExit(f"the values do not fit the axis, {low:.0f} to {high:.0f}")

    def x(i):
        return LEFT + (WIDTH - LEFT - RIGHT) * i / (n - 1)

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low)

    def points(items, start):
        return " ".join(f"{x(start + i):.1f},{y(v):.1f}" for i, v in enumerate(items))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" '
           f'fill="{INK}" role="img">',
           "<title>US retail sales: history and forecast</title>",
           f"<desc>Real output of moezoo forecast with {model}; "
           "drawn by docs/draw-forecast.py.</desc>",
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="18" font-size="14">US retail sales a month, billion dollars: '
           f'{MONTHS} months of history, {len(forecast)} of forecast ({model})</text>']
    value = low
    while value <= high:
        out.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
                   f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">'
                   f'{value / 1e3:.0f}</text>')
        value += step
    for i in range(n):
        month = months[0] + i
        if month % 12 == 0:
            out.append(f'<path d="M{x(i):.1f} {HEIGHT - BOTTOM}v5" stroke="{INK}"/>'
                       f'<text x="{x(i):.1f}" y="{HEIGHT - BOTTOM + 19}" text-anchor="middle">'
                       f'Jan {month // 12}</text>')
    last = len(values) - 1
    cut = x(last)
    out += [f'<path d="M{cut:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{INK}" '
            'stroke-dasharray="2 4"/>',
            f'<text x="{cut - 8:.1f}" y="{TOP - 6}" text-anchor="end" fill="{HISTORY}">'
            "observed (line)</text>",
            f'<text x="{cut + 8:.1f}" y="{TOP - 6}" fill="{FORECAST}">forecast (dots)</text>',
            f'<polyline points="{points(values, 0)}" fill="none" stroke="{HISTORY}" '
            'stroke-width="2" stroke-linejoin="round"/>',
            f'<polyline points="{points([values[-1]] + forecast, last)}" fill="none" '
            f'stroke="{FORECAST}" stroke-width="2" stroke-dasharray="6 3"/>']
    out += [f'<circle cx="{x(last + 1 + i):.1f}" cy="{y(v):.1f}" r="3" fill="{FORECAST}"/>'
            for i, v in enumerate(forecast)]
    out.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="{INK}"/>')
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
