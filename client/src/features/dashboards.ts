/** Live values, tables, charts and logs of the boards that a page shows. */

import { liveChart } from "./dashboards/chart.js";
import { liveLog } from "./dashboards/log.js";
import { liveTable } from "./dashboards/table.js";
import { liveValue } from "./dashboards/value.js";
import { defineElements } from "./shared/define.js";

defineElements({
  "live-value": liveValue,
  "live-table": liveTable,
  "live-chart": liveChart,
  "live-log": liveLog,
});
