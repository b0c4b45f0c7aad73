"""Sends N metric points to an MLflow server, one call each: mlflow_points.py ADDRESS N."""

import sys
import time

import mlflow

mlflow.set_tracking_uri(sys.argv[1])
points = int(sys.argv[2])
with mlflow.start_run():
    began = time.perf_counter()
    for step in range(points):
        mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
    print("SECONDS", time.perf_counter() - began)
