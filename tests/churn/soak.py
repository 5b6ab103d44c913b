"""`make soak`, its second part: connections that come and go, CONNECTIONS=100000 of them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.churn.run import churn
from tests.churn.test_churn import APPLICATION
from tests.support.databases import server_database
from tests.support.servers import Server


def main(count: int) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="django_live_churn_") as folder,
        server_database("sqlite", Path(folder)) as database,
        Server("uvicorn", APPLICATION, env=database.env) as server,
    ):
        report = churn(server, count)
        sys.stdout.write(
            f"{count} connections in {report.seconds:.0f} s\n"
            f"before: {dict(report.before)}\nafter:  {dict(report.after)}\n"
            f"too much: {report.faults or 'nothing'}\n"
        )
        failed = bool(report.faults) or "Traceback" in server.log()
        return int(failed)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
