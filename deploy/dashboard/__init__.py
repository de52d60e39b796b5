"""What Grafana shows of Purser: `python -m deploy.dashboard` writes deploy/grafana/dashboards/purser.json from this.

One dashboard, from "is it well?" at the top down the road of a purchase. To change it, change purser.py, and write it
anew; what is changed in Grafana itself is gone when it starts again.
"""
