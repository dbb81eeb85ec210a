// The list of requests, with what each has done.

import { draw, noteTime } from "./bars.js";
import { $, button, element, texts } from "./base.js";
import { refreshSoon } from "./users.js";
import { badges, explanation, milliseconds, readable, stepName } from "./words.js";

const KEPT = 200;
const requests = new Map(); // by key: { trace, item, bars, selected, open }

function receive(trace) {
  const key = `${trace.began} ${trace.number}`;
  let request = requests.get(key);
  if (!request) {
    request = { item: element("li", "request"), selected: null, open: false };
    requests.set(key, request);
    let older = $("requests").firstElementChild;
    while (older && Number(older.dataset.began) > trace.began) older = older.nextElementSibling;
    request.item.dataset.began = trace.began;
    $("requests").insertBefore(request.item, older);
    if (requests.size > KEPT) {
      const [oldest, { item }] = requests.entries().next().value;
      item.remove();
      requests.delete(oldest);
    }
  }
  request.trace = trace;
  noteTime(trace);
  $("empty").hidden = true;
  show(request);
  if (trace.ms !== null && trace.method !== "GET" && trace.status < 400) refreshSoon();
}

function show(request) {
  const { trace } = request;
  const focused = request.item.querySelector("summary") === document.activeElement;
  const details = element("details");
  details.open = request.open;
  details.addEventListener("toggle", () => (request.open = details.open));
  const summary = element("summary");
  const line = element("span", "line");
  const status = element("span", "status", trace.status ?? "...");
  status.dataset.kind = trace.status === null ? "" : Math.floor(trace.status / 100);
  const time = trace.ms === null ? texts.goesOn : milliseconds(trace.ms);
  line.append(
    element("span", "method", trace.method),
    element("code", "path", readable(trace.path)),
    status,
    element("span", "time", time),
    ...badges(trace).map((name) => {
      const badge = element("span", "badge", texts.badges[name]);
      badge.dataset.name = name;
      return badge;
    }),
  );
  const connection = trace.steps.find((step) => step.name === "connection")?.details;
  if (connection) {
    const { pool, number, in_use: used, size } = connection;
    line.append(element("span", "connection", texts.connection(pool, number, used, size)));
  }
  request.bars = element("span", "bars");
  request.bars.setAttribute("aria-hidden", "true"); // the list below says the same
  request.bars.addEventListener("click", (event) => {
    const { step } = event.target.dataset;
    if (step === undefined) return;
    event.preventDefault(); // the summary would close what the click opens
    select(request, Number(step));
  });
  summary.append(line, request.bars);
  const steps = element("ol", "steps");
  const chosen = element("div", "chosen");
  chosen.setAttribute("role", "status");
  trace.steps.forEach((step, index) => {
    const item = element("li");
    const press = button("", () => select(request, index), "step");
    press.dataset.name = step.name;
    press.setAttribute("aria-pressed", String(request.selected === index));
    press.append(
      element("span", "at", milliseconds(step.at)),
      element("span", "", stepName(step)),
      element("span", "ms", step.ms === null ? "" : milliseconds(step.ms)),
    );
    item.append(press);
    steps.append(item);
  });
  if (request.selected !== null) explain(chosen, trace, trace.steps[request.selected]);
  details.append(summary, steps, chosen);
  request.item.replaceChildren(details);
  if (focused) summary.focus();
}

function select(request, index) {
  request.selected = index;
  request.open = true;
  show(request);
  draw(requests.values());
  request.item.querySelectorAll("button.step")[index].focus();
}

function explain(place, trace, step) {
  place.append(element("p", "", explanation(trace, step)));
  if (step.where) {
    const where = element("p", "where");
    where.append(element("strong", "", step.where), " ", element("code", "", step.code));
    place.append(where);
  }
  const { sql, parameters, error } = step.details;
  if (sql) {
    place.append(element("pre", "", sql));
    place.append(element("p", "", texts.values(parameters)));
  }
  if (error) place.append(element("p", "error", texts.error(error)));
}

function showNow() {
  const going = [...requests.values()].filter(({ trace }) => trace.ms === null);
  const having = (name) =>
    going.filter(({ trace }) => trace.steps.some((step) => step.name === name && step.ms === null));
  const waiting = going.filter(
    ({ trace: { method, steps } }) =>
      steps.every((step) => step.name === "body") && (steps.length || method === "GET"),
  );
  const numbers = [going, waiting, having("session"), having("connection")].map((all) => all.length);
  $("now").textContent = alive ? texts.now(...numbers) : texts.away;
}

export function showAll() {
  requests.forEach(show);
  changed = true;
}

let changed = true;
setInterval(() => {
  const going = [...requests.values()].some(({ trace }) => trace.ms === null);
  if (changed || going) {
    draw(requests.values());
    showNow();
  }
  changed = false;
}, 100);

const source = new EventSource("/watch/events");
let process = null;
let alive = true;
source.addEventListener("process", ({ data }) => {
  if (process !== null && process !== data) {
    // The server was started anew, and nobody will tell how these ended.
    for (const [key, { trace, item }] of requests) {
      if (trace.ms !== null) continue;
      item.remove();
      requests.delete(key);
    }
  }
  process = data;
  alive = true;
  if ($("message").textContent === texts.away) $("message").textContent = "";
  changed = true;
  refreshSoon();
});
source.addEventListener("message", (event) => {
  receive(JSON.parse(event.data));
  changed = true;
});
source.addEventListener("error", () => {
  alive = false;
  changed = true;
});
