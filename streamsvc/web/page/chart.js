// A small chart on a canvas: lines or bars over time, with labelled axes and the last value.

import { time } from "./text.js";

const MARGIN = { left: 8, right: 76, top: 10, bottom: 20 };

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function number(value) {
  const size = Math.abs(value);
  const digits = size >= 1000 ? 2 : size >= 1 ? 4 : 6;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function range(values, withZero) {
  let low = Math.min(...values), high = Math.max(...values);
  if (withZero) { low = Math.min(low, 0); high = Math.max(high, 0); }
  const pad = (high - low || Math.abs(high) * 0.001 || 1) * 0.06;
  return [low - pad, high + pad];
}

// lines: [{values: [[ms, value], …], colour: "--price"}]; bars is one such list.
export function draw(canvas, { lines = [], bars = null, withSeconds = true, label }) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  const points = [...lines.flatMap((line) => line.values), ...(bars || [])];
  pen.fillStyle = colour("--quiet");
  if (!points.length) {
    pen.fillText("nothing yet", MARGIN.left + 4, height / 2);
    canvas.setAttribute("aria-label", `${label}: nothing yet`);
    return;
  }
  const times = points.map((point) => point[0]);
  const first = Math.min(...times), last = Math.max(...times, first + 1);
  const [low, high] = range(points.map((point) => point[1]), bars !== null);
  const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const x = (ms) => MARGIN.left + ((ms - first) / (last - first)) * (right - MARGIN.left);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);

  pen.strokeStyle = colour("--line");
  pen.lineWidth = 1;
  for (const share of [0, 0.5, 1]) {
    const value = low + (high - low) * (0.06 + share * 0.88);
    pen.beginPath();
    pen.moveTo(MARGIN.left, y(value));
    pen.lineTo(right, y(value));
    pen.stroke();
    pen.fillText(number(value), right + 6, y(value) + 4);
  }
  pen.textAlign = "left";
  pen.fillText(`${time(first, withSeconds)} UTC`, MARGIN.left, height - 6);
  pen.textAlign = "right";
  pen.fillText(time(last, withSeconds), right, height - 6);
  pen.textAlign = "left";

  if (bars) {
    const wide = Math.max(1, (right - MARGIN.left) / Math.max(bars.length, 30) - 1);
    for (const [ms, value] of bars) {
      pen.fillStyle = colour(value < 0 ? "--down" : "--up");
      pen.fillRect(x(ms) - wide / 2, Math.min(y(value), y(0)), wide, Math.max(1, Math.abs(y(value) - y(0))));
    }
  }
  for (const line of lines) {
    pen.strokeStyle = colour(line.colour);
    pen.lineWidth = line.isThin ? 1 : 2;
    pen.beginPath();
    line.values.forEach(([ms, value], place) => (place ? pen.lineTo(x(ms), y(value)) : pen.moveTo(x(ms), y(value))));
    if (line.values.length === 1) pen.arc(x(line.values[0][0]), y(line.values[0][1]), 2, 0, 7);
    pen.stroke();
  }
  const newest = (bars || lines[0].values).at(-1);
  canvas.setAttribute("aria-label", `${label}: ${newest ? number(newest[1]) : "nothing yet"}`);
}
