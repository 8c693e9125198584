// The chosen symbol: its windows come over server-sent events and are drawn as they come.

import { draw, number } from "./chart.js";

const POINTS_MAX = 200;
let source = null;
let chosen = null;
let rows = {};
let now = {};

const byId = (id) => document.getElementById(id);

export function choose(market, symbol) {
  if (chosen && chosen.market === market && chosen.symbol === symbol) return;
  if (source) source.close();
  chosen = { market, symbol };
  rows = {};
  now = {};
  byId("symbol").hidden = false;
  byId("symbol-title").textContent = `${symbol}, ${market}`;
  byId("symbol-now").textContent = "";
  paint();
  source = new EventSource(`events?market=${encodeURIComponent(market)}&symbol=${encodeURIComponent(symbol)}`);
  source.addEventListener("window", (event) => { rows = {}; take(JSON.parse(event.data)); });
  source.addEventListener("points", (event) => take(JSON.parse(event.data)));
}

export function isChosen(market, symbol) {
  return chosen !== null && chosen.market === market && chosen.symbol === symbol;
}

export function isAnyChosen() {
  return chosen !== null;
}

function take(found) {
  for (const [kind, fresh] of Object.entries(found)) {
    if (!Array.isArray(fresh)) { now[kind] = fresh; continue; }
    const known = new Map((rows[kind] || []).map((row) => [row.open_ms, row]));
    for (const row of fresh) known.set(row.open_ms, row);
    rows[kind] = [...known.values()].sort((one, other) => one.open_ms - other.open_ms).slice(-POINTS_MAX);
  }
  paint();
}

function series(kind, column) {
  return (rows[kind] || []).filter((row) => row[column] !== 0 || column === "ofi" || column === "cvd")
    .map((row) => [row.open_ms, row[column]]);
}

// The open minute stands behind the closed ones.
function withNow(points) {
  if (!now.cvd) return points;
  const last = points.length ? points.at(-1)[0] + 60000 : Date.now();
  return [...points, [last, Number(now.cvd)]];
}

export function paint() {
  if (!chosen) return;
  draw(byId("chart-price"), {
    label: "Price",
    lines: [
      { values: series("prices_1s", "last_price"), colour: "--price" },
      { values: series("prices_1s", "bid_price"), colour: "--bid", isThin: true },
      { values: series("prices_1s", "ask_price"), colour: "--ask", isThin: true },
    ],
  });
  draw(byId("chart-ofi"), { label: "Order flow imbalance", bars: series("ofi_1s", "ofi") });
  draw(byId("chart-cvd"), {
    label: "CVD", withSeconds: false, lines: [{ values: withNow(series("cvd_1m", "cvd")), colour: "--price" }],
  });
  const parts = [];
  if (now.last_price) parts.push(`last ${number(Number(now.last_price))}`);
  if (now.bid_price) parts.push(`bid ${number(Number(now.bid_price))}`, `ask ${number(Number(now.ask_price))}`);
  if (now.cvd) parts.push(`CVD ${number(Number(now.cvd))}`);
  byId("symbol-now").textContent = parts.join(" · ");
}
