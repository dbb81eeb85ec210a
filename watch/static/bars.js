// The bars of a request, drawn to scale: requests that ran at the same time share one.

import { element } from "./base.js";
import { milliseconds, onlyRead, stepName } from "./words.js";

let clock = -Infinity; // what to add to performance.now() to get the time of the server

// The message that took the shortest way shows best what time it is there.
export function noteTime(trace) {
  clock = Math.max(clock, trace.began + trace.now - performance.now());
}

function passed(request) {
  const { trace } = request;
  return trace.ms ?? Math.max(trace.now, performance.now() + clock - trace.began);
}

const LANES = {
  body: 0,
  turn: 0,
  session: 0,
  connection: 1,
  begin: 2,
  thread: 3,
  wait: 3,
  sql: 3,
  commit: 3,
  rollback: 3,
  answer: 3,
};

export function draw(requests) {
  const all = [...requests].sort((a, b) => a.trace.began - b.trace.began);
  let group = [];
  let end = -Infinity;
  for (const request of all) {
    const { began, ms, steps } = request.trace;
    if (ms === null && !steps.length) {
      drawGroup([request], began + passed(request)); // its body is still coming, perhaps for ever
      continue;
    }
    if (began > end) {
      drawGroup(group, end);
      group = [];
      end = -Infinity;
    }
    group.push(request);
    end = Math.max(end, began + passed(request));
  }
  drawGroup(group, end);
}

function drawGroup(group, end) {
  if (!group.length) return;
  const start = group[0].trace.began;
  const scale = 100 / (end - start);
  for (const request of group) drawBars(request, request.trace.began - start, scale);
}

function drawBars(request, offset, scale) {
  const { trace } = request;
  trace.steps.forEach((step, index) => {
    if (!(step.name in LANES)) return;
    const bar = request.bars.querySelector(`[data-step="${index}"]`) ?? newBar(request, index);
    const ms = duration(request, step);
    bar.style.left = `${(offset + step.at) * scale}%`;
    bar.style.width = `${ms * scale}%`;
    bar.title = `${stepName(step)}, ${milliseconds(ms)}`;
  });
}

function newBar(request, index) {
  const step = request.trace.steps[index];
  const bar = element("span", "bar");
  bar.dataset.step = index;
  bar.dataset.name = step.name;
  bar.dataset.lane = LANES[step.name];
  if (step.details.error) bar.dataset.error = "";
  if (step.name === "rollback" && onlyRead(request.trace)) bar.dataset.harmless = "";
  request.bars.append(bar);
  return bar;
}

function duration(request, step) {
  const { trace } = request;
  if (step.name !== "begin") return step.ms ?? (trace.ms === null ? passed(request) - step.at : 0);
  const last = trace.steps.find(
    (other) => other.at >= step.at && ["commit", "rollback"].includes(other.name),
  );
  return (last ? last.at + (last.ms ?? 0) : passed(request)) - step.at;
}
