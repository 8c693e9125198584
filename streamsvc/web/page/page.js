// The live page: asks for /status every two seconds, and never shows what is old as if it were new.

import { moveFocus, show } from "./matrix.js";
import { choose, isAnyChosen, isChosen, paint } from "./symbol.js";
import { bytes, count, dateTime, duration, element, milliseconds } from "./text.js";

const EVERY_MS = 2000;
const ANSWER_MS = 5000;
const byId = (id) => document.getElementById(id);
let status = null;
let answeredAt = null;

function say(level, text, more) {
  byId("verdict").className = `verdict ${level}`;
  if (byId("verdict-text").textContent !== text) byId("verdict-text").textContent = text;
  byId("verdict-more").textContent = more;
  document.title = `${level === "ok" ? "" : "! "}streamsvc`;
}

function figure(name, value, more = "") {
  const made = element("div");
  made.append(element("div", name, "name"), element("div", value, "value"), element("div", more, "more"));
  return made;
}

function figures() {
  const { journal, queue, disk, files, gaps, rates, counts, streams, process, writer } = status;
  const latency = Object.entries(status.latency);
  const rest = Object.entries(status.rest);
  const streamsOk = `${count(streams.ok)} of ${count(streams.ok + streams.suspect + streams.stalled + streams.disconnected)}`;
  byId("figures").replaceChildren(
    figure("Writer", writer.state.replace("_", ", "), writer.mode === "extreme" ? "short rotation" : "normal rotation"),
    figure("Messages a second", count(rates.messages_per_sec), `${count(counts.accepted)} since the start`),
    figure("Streams that flow", streamsOk, `${count(counts.reconnects)} reconnects`),
    figure("Latency, median", latency.map(([, each]) => milliseconds(each.p50_ms)).join(" / "),
      latency.map(([market, each]) => `${market}: 99 % within ${milliseconds(each.p99_ms)}`).join(", ")),
    figure("Gaps open", count(gaps.open), `${count(gaps.repaired)} repaired, ${count(gaps.unrepairable)} cannot be`),
    figure("Journal", bytes(journal.unsealed_bytes), `${count(journal.unsealed_segments)} segments wait; unsynced for ${duration(journal.unsynced_age_sec)}`),
    figure("Queue", `${Math.round((100 * queue.used_bytes) / queue.limit_bytes)} %`, `of ${bytes(queue.limit_bytes)}`),
    figure("Disk free", bytes(disk.free_bytes), `intake pauses below ${bytes(disk.reserve_bytes)}`),
    figure("Data set", bytes(files.parquet_bytes), `${count(files.parquet_files)} files`),
    figure("REST weight a minute", rest.map(([, each]) => count(each.weight_used)).join(" / ") || "–",
      rest.map(([market, each]) => `${market}: of ${count(each.weight_limit)}`).join(", ")),
    figure("CVD mismatches", count(status.cvd_mismatches), "against the exchange's candles"),
    figure("Memory", bytes(process.rss_bytes), `${count(process.tasks)} tasks`),
  );
}

function table(headings, rows, empty) {
  if (!rows.length) return element("p", empty, "quiet");
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const [name, side] of headings) head.append(element("th", name, side));
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((value, place) => {
      const data = line.insertCell();
      data.className = headings[place][1];
      data.append(value instanceof Node ? value : document.createTextNode(value));
    });
  }
  return made;
}

function gaps() {
  const rows = status.gaps.latest.map((gap) => [
    dateTime(gap.opened_ms), `${gap.symbol} ${gap.kind}`, count(gap.last_id - gap.first_id + 1), gap.cause,
    element("span", gap.status, `tag cell ${{ open: "suspect", repaired: "ok" }[gap.status] || "disconnected"}`),
  ]);
  byId("gaps").replaceChildren(
    table([["found (UTC)", "left"], ["stream", "left"], ["ids", ""], ["cause", "left"], ["", "left"]], rows, "No gap was ever found."),
  );
}

function connections() {
  const rows = status.connections.map((each) => [
    each.name,
    element("span", each.is_up ? "up" : "× down", `tag cell ${each.is_up ? "ok" : "disconnected"}`),
    count(each.streams), each.age_sec === null ? "–" : duration(each.age_sec), count(each.reconnects),
  ]);
  byId("connections").replaceChildren(
    table([["name", "left"], ["", "left"], ["streams", ""], ["up for", ""], ["reconnects", ""]], rows, "There is none."),
  );
}

function matrix() {
  show(byId("matrix"), status.matrix, byId("find").value, (market, symbol) => { choose(market, symbol); matrix(); }, isChosen);
}

function render() {
  document.body.classList.remove("stale");
  const { level, text, reasons } = status.verdict;
  say(level, text, reasons.slice(1).join("; "));
  figures();
  matrix();
  gaps();
  connections();
  byId("foot").textContent = `streamsvc ${status.version}, up for ${duration(status.uptime_sec)}; ${dateTime(status.now_ms)} UTC`;
  const first = status.matrix.find((each) => each.symbols.length);
  if (!isAnyChosen() && first) { choose(first.market, first.symbols[0]); matrix(); }
}

async function ask() {
  try {
    const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    status = await answer.json();
    answeredAt = Date.now();
    render();
  } catch (fault) {
    document.body.classList.add("stale");
    const since = answeredAt === null ? "" : ` for ${duration((Date.now() - answeredAt) / 1000)}`;
    say("bad", `No answer from the recorder${since}.`, answeredAt === null ? String(fault.message) : "What is shown below is old.");
  }
  setTimeout(ask, EVERY_MS);
}

byId("find").addEventListener("input", () => { if (status) matrix(); });
byId("matrix").addEventListener("keydown", (event) => {
  if (moveFocus(byId("matrix"), event.key)) event.preventDefault();
});
new ResizeObserver(paint).observe(byId("symbol"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
ask();
