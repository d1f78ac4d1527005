#!/usr/bin/env python3
"""Writes baselines.json: what statsforecast answers for series of assets/samples and of two public
collections. Needs statsforecast (2.1) and statsmodels.

    python tests/golden/baselines/make_baselines.py DATAHUB PROPHET    from the repository's root

DATAHUB holds clones of github.com/datasets/{oil-prices,natural-gas,co2-ppm,global-temp}/data as folders
of these names, PROPHET the examples of github.com/facebook/prophet.

"damped" is AutoETS with an additive damped trend on the series from which classical decomposition took
the season where it is significant at 90 %, as statsforecast does before Theta.
"""
import csv
import json
import sys
import warnings

import numpy as np
from statsforecast.models import AutoETS, Naive, RandomWalkWithDrift, SeasonalNaive, Theta
from statsmodels.tsa.seasonal import seasonal_decompose
from statsmodels.tsa.stattools import acf

warnings.filterwarnings("ignore")
HORIZON = 8


def column(path, name):
    with open(path) as f:
        rows = csv.reader(f)
        i = next(rows).index(name)
        return [float(r[i]) for r in rows if r[i]]


def sums(values, n):
    return [round(sum(values[i:i + n]), 6) for i in range(0, len(values) - n + 1, n)]


def adjust(x, season):
    """The series without its season, and what that is at each step of the forecast."""
    if season < 4 or len(x) < 2 * season:
        return x, None, None
    r = acf(x, nlags=season, fft=False)
    if abs(r[-1]) / np.sqrt((1 + 2 * np.sum(r[1:-1]**2)) / len(x)) <= 1.6448536269514722:
        return x, None, None
    kind = "multiplicative" if min(x) > 0 else "additive"
    factors = seasonal_decompose(x, model=kind, period=season).seasonal
    if kind == "multiplicative" and (factors < 0.01).any():
        kind = "additive"
        factors = seasonal_decompose(x, model=kind, period=season).seasonal
    ahead = np.array([factors[(len(x) + h) % season] for h in range(HORIZON)])
    return x / factors if kind == "multiplicative" else x - factors, kind, ahead


def damped(x, season):
    adjusted, kind, ahead = adjust(x, season)
    mean = AutoETS(season_length=1, model="AAN", damped=True).forecast(adjusted, HORIZON)["mean"]
    return mean * ahead if kind == "multiplicative" else mean + ahead if kind == "additive" else mean


def main():
    datahub, prophet = sys.argv[1:]
    retail = column("assets/samples/retail_sales.csv", "y")
    people = column("assets/samples/pedestrians.csv", next(csv.reader(open("assets/samples/pedestrians.csv")))[1])
    oil = column(f"{datahub}/oil-prices/wti-monthly.csv", "Price")
    weekly = column(f"{datahub}/oil-prices/brent-weekly.csv", "Price")
    gas = column(f"{datahub}/natural-gas/monthly.csv", "Price")
    co2 = column(f"{datahub}/co2-ppm/co2-mm-mlo.csv", "Average")
    warmth = column(f"{datahub}/global-temp/monthly.csv", "Mean")
    years = column(f"{datahub}/global-temp/annual.csv", "Mean")
    air = column(f"{prophet}/example_air_passengers.csv", "y")
    series = [
        ("retail", retail, 12),
        ("retail, 30 months", retail[:30], 12),
        ("retail, by year", sums(retail[:288], 12), 1),
        ("retail, negative", [-v for v in retail[100:180]], 12),
        ("pedestrians", people[:240], 24),
        ("short", [3.0, 5.0, 4.0, 6.0, 5.0, 7.0], 1),
        ("oil, monthly", oil[:100], 12),
        ("oil, later", oil[300:390], 12),
        ("oil, by year", sums(oil, 12), 1),
        ("oil, weekly", weekly[1000:1110], 1),
        ("gas, monthly", gas[:80], 12),
        ("gas, by quarter", sums(gas, 3)[:60], 4),
        ("gas, by year", sums(gas, 12), 1),
        ("co2, monthly", co2[:72], 12),
        ("co2, later", co2[500:590], 12),
        ("co2, by year", sums(co2[10:], 12)[:50], 1),
        ("warmth, monthly", warmth[600:690], 12),
        ("warmth, by year", years[100:160], 1),
        ("air", air, 12),
        ("air, 40 months", air[:40], 12),
        ("air, by quarter", sums(air, 3), 4),
        ("air, by year", sums(air, 12), 1),
    ]
    out = []
    for name, values, season in series:
        x = np.array(values)
        models = {"naive": Naive(), "seasonal naive": SeasonalNaive(season), "drift": RandomWalkWithDrift(),
                  "theta": Theta(season_length=season)}
        answers = {k: m.forecast(x, HORIZON)["mean"].tolist() for k, m in models.items()}
        if len(x) > 9:  # fewer and statsforecast takes another method
            answers["damped"] = damped(x, season).tolist()
        out.append({"name": name, "season": season, "values": values, "forecasts": answers})
    with open("tests/golden/baselines/baselines.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(s, separators=(",", ":")) for s in out) + "\n]\n")


main()
