// Symbols by kinds, coloured by how each stream is doing; told by a sign and in words too.

import { age, element } from "./text.js";

const SIGNS = { ok: "", suspect: "? ", stalled: "! ", disconnected: "× " };
const WORDS = { ok: "flows", suspect: "nothing has come yet", stalled: "stalled", disconnected: "not connected" };
const SHORT = { bookTicker: "quotes", aggTrade: "agg", markPrice: "mark", forceOrder: "liq", kline_1m: "kline" };
const OLD_SEC = 60;
const ROWS_A_BLOCK = 50;

function worst(states) {
  return Math.max(...states.map((state) => ["ok", "suspect", "disconnected", "stalled"].indexOf(state)));
}

function ordered(table, find) {
  const wanted = find.trim().toUpperCase();
  return table.symbols
    .map((symbol, place) => ({ symbol, place, trouble: worst(table.states[place].filter((state) => state)) }))
    .filter((row) => row.symbol.toUpperCase().includes(wanted))
    .sort((one, other) => other.trouble - one.trouble || one.place - other.place);
}

function cell(table, row, column) {
  const state = table.states[row.place][column];
  if (state === null) return element("span", "", "cell none");
  const seconds = table.age_sec[row.place][column];
  const isOld = state === "ok" && seconds !== null && seconds > OLD_SEC;
  const made = element("span", SIGNS[state] + age(seconds), `cell ${isOld ? "old" : state}`);
  const rate = table.per_sec[row.place][column];
  made.title = `${row.symbol} ${table.kinds[column]}: ${WORDS[state]}; last message ${age(seconds)} s ago, ${rate} a second`;
  return made;
}

function block(table, rows, onChoose, isChosen) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  head.append(element("th"));
  for (const kind of table.kinds) {
    const heading = element("th", SHORT[kind] || kind);
    heading.scope = "col";
    heading.title = kind;
    head.append(heading);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    const heading = element("th");
    heading.scope = "row";
    const button = element("button", row.symbol);
    button.type = "button";
    button.dataset.key = `${table.market}/${row.symbol}`;
    button.title = `Show ${row.symbol}`;
    button.setAttribute("aria-pressed", String(isChosen(table.market, row.symbol)));
    button.addEventListener("click", () => onChoose(table.market, row.symbol));
    heading.append(button);
    line.append(heading);
    table.kinds.forEach((_, column) => {
      const data = line.insertCell();
      data.append(cell(table, row, column));
      data.addEventListener("click", () => onChoose(table.market, row.symbol));
    });
  }
  return made;
}

export function show(place, matrix, find, onChoose, isChosen) {
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : null;
  const parts = matrix.map((table) => {
    const rows = ordered(table, find);
    const part = element("div");
    part.append(element("h3", `${table.market}: ${rows.length} of ${table.symbols.length} symbols`));
    const blocks = element("div", "", "blocks");
    for (let first = 0; first < rows.length; first += ROWS_A_BLOCK) {
      blocks.append(block(table, rows.slice(first, first + ROWS_A_BLOCK), onChoose, isChosen));
    }
    part.append(blocks);
    return part;
  });
  place.replaceChildren(...parts);
  if (focused) {
    const again = [...place.querySelectorAll("button")].find((button) => button.dataset.key === focused);
    if (again) again.focus({ preventScroll: true });
  }
}

export function moveFocus(place, key) {
  const buttons = [...place.querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  const steps = { ArrowDown: 1, ArrowUp: -1, ArrowRight: ROWS_A_BLOCK, ArrowLeft: -ROWS_A_BLOCK };
  if (at < 0 || !(key in steps)) return false;
  buttons[Math.min(Math.max(at + steps[key], 0), buttons.length - 1)].focus();
  return true;
}
