#!/usr/bin/env python3
"""Writes baselines.json: what statsforecast answers for series of assets/samples. Needs statsforecast (2.1).

    python tests/golden/baselines/make_baselines.py    from the repository's root
"""
import csv
import json

import numpy as np
from statsforecast.models import Naive, RandomWalkWithDrift, SeasonalNaive, Theta


def column(path, name):
    with open(path) as f:
        return [float(r[name]) for r in csv.DictReader(f) if r[name]]


retail = column("assets/samples/retail_sales.csv", "y")
people = column("assets/samples/pedestrians.csv", next(csv.reader(open("assets/samples/pedestrians.csv")))[1])
series = [
    ("retail", retail, 12),
    ("retail, 30 months", retail[:30], 12),
    ("retail, by year", [sum(retail[i:i + 12]) for i in range(0, 288, 12)], 1),
    ("retail, negative", [-v for v in retail[100:180]], 12),
    ("pedestrians", people[:240], 24),
    ("short", [3.0, 5.0, 4.0, 6.0, 5.0, 7.0], 1),
]
out = []
for name, values, season in series:
    x = np.array(values)
    models = {"naive": Naive(), "seasonal naive": SeasonalNaive(season), "drift": RandomWalkWithDrift(),
              "theta": Theta(season_length=season)}
    answers = {k: m.forecast(x, 8)["mean"].tolist() for k, m in models.items()}
    out.append({"name": name, "season": season, "values": values, "forecasts": answers})
json.dump(out, open("tests/golden/baselines/baselines.json", "w"), indent=0)
