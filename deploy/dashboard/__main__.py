"""`python -m deploy.dashboard`: writes the dashboard to where Grafana finds it."""

from __future__ import annotations

import json

from deploy.dashboard.purser import dashboard
from deploy.settings import PROJECT

DASHBOARD = PROJECT / "deploy/grafana/dashboards/purser.json"

if __name__ == "__main__":
    DASHBOARD.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")
