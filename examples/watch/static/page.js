// The page: users on one side, what each request does on the other. Whatever comes from the server
// is set with textContent, never as markup.

import { TEXTS } from "./texts.js";

const $ = (id) => document.getElementById(id);
const PAGE_SIZE = 10;

let language = localStorage.getItem("language") ?? document.documentElement.lang;
let texts = TEXTS[language];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, action, className) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// ---- Users

let page = 1;
let listed = 0; // how often the list was asked for
let editing = null; // the id of the user in the form, if there is one

async function call(method, path, body, message = $("message")) {
  try {
    const headers = body ? { "Content-Type": "application/json" } : {};
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const json = await answer.json();
    if (answer.ok) {
      message.textContent = "";
      return { answer, json };
    }
    const detail = json.detail;
    const said = Array.isArray(detail)
      ? detail.map((mistake) => `${mistake.loc.at(-1)}: ${mistake.msg}`).join("; ")
      : detail;
    message.textContent = `${answer.status}: ${said}`;
  } catch {
    message.textContent = texts.away;
  }
  return null;
}

// What the page asks for by itself goes to /watch/users, which is not traced.
async function list(path = "/users") {
  const asked = ++listed;
  const query = new URLSearchParams({ page, page_size: PAGE_SIZE });
  const text = $("search").query.value.trim();
  if (text) query.set("query", text);
  const result = await call("GET", `${path}?${query}`, null, $("list-message"));
  if (!result || asked !== listed) return; // an answer that comes late is out of date
  const total = Number(result.answer.headers.get("X-Total-Count"));
  const pages = Math.max(1, Math.ceil(total / PAGE_SIZE));
  if (page > pages) {
    page = pages;
    list(path);
    return;
  }
  const focused = document.activeElement.dataset.key;
  $("rows").replaceChildren(...result.json.map(row));
  if (focused) {
    const same = document.querySelector(`[data-key="${focused}"]`);
    (same ?? $("rows").querySelector("button") ?? $("search").query).focus();
  }
  $("page").textContent = texts.page(page, pages, total);
  $("previous").disabled = page === 1;
  $("next").disabled = page === pages;
}

function row(user) {
  const made = element("tr");
  const cells = [user.id, user.name, user.email, user.is_active ? texts.yes : texts.no];
  made.append(...cells.map((cell) => element("td", "", cell)));
  const actions = element("td", "actions");
  const edit = button(texts.edit, () => fill(user));
  const remove = button(texts.remove, () => removeUser(user));
  edit.dataset.key = `edit ${user.id}`;
  remove.dataset.key = `remove ${user.id}`;
  edit.setAttribute("aria-label", `${texts.edit}: ${user.name}`);
  remove.setAttribute("aria-label", `${texts.remove}: ${user.name}`);
  actions.append(edit, remove);
  made.append(actions);
  return made;
}

function fill(user) {
  editing = user?.id ?? null;
  const form = $("user");
  form.name.value = user?.name ?? "";
  form.email.value = user?.email ?? "";
  form.is_active.checked = user?.is_active ?? true;
  form.is_active.parentElement.hidden = editing === null; // a new user is active
  $("cancel").hidden = editing === null;
  $("message").textContent = "";
  label();
  if (user) form.name.focus();
}

function label() {
  $("user-title").textContent = editing === null ? texts.add : texts.change(editing);
  $("save").textContent = editing === null ? texts.add : texts.save;
}

async function save(event) {
  event.preventDefault();
  const form = $("user");
  const body = { name: form.name.value, email: form.email.value };
  const result =
    editing === null
      ? await call("POST", "/users", body)
      : await call("PATCH", `/users/${editing}`, { ...body, is_active: form.is_active.checked });
  if (!result) return;
  fill(null);
  $("message").textContent = texts.done;
}

async function removeUser(user) {
  if (!(await call("DELETE", `/users/${user.id}`))) return;
  if (editing === user.id) fill(null);
  $("message").textContent = texts.done;
}

let listing = null; // one list for many changes that come together
function refreshSoon() {
  listing ??= setTimeout(() => {
    listing = null;
    list("/watch/users");
  }, 200);
}

// ---- Lessons

const lessons = Object.keys(texts.lesson).map((name) => {
  const item = element("li");
  const result = element("span", "result");
  const sentence = element("p");
  result.setAttribute("role", "status");
  const lesson = { name, sentence, result, statuses: null, state: "" };
  lesson.start = button("", () => learn(lesson));
  lesson.start.dataset.lesson = name;
  item.append(lesson.start, result, sentence);
  $("lessons").append(item);
  return lesson;
});

function showLesson(lesson) {
  [lesson.start.textContent, lesson.sentence.textContent] = texts.lesson[lesson.name];
  lesson.start.disabled = lesson.state === "running";
  const answers = lesson.statuses && texts.answers(count(lesson.statuses));
  lesson.result.textContent = texts[lesson.state] ?? answers ?? "";
}

async function learn(lesson) {
  lesson.state = "running";
  showLesson(lesson);
  // On a phone, the requests are further down.
  if (matchMedia("(max-width: 60rem)").matches) $("requests-title").scrollIntoView();
  try {
    const answer = await fetch(`/watch/lessons/${lesson.name}`, { method: "POST" });
    lesson.statuses = await answer.json();
    lesson.state = "";
  } catch {
    lesson.state = "away";
  }
  showLesson(lesson);
  refreshSoon();
}

function count(statuses) {
  const counts = new Map();
  for (const status of statuses) counts.set(status, (counts.get(status) ?? 0) + 1);
  return [...counts].map(([status, times]) => `${times} × ${status}`).join(", ");
}

// ---- Requests

const KEPT = 200;
let clock = -Infinity; // what to add to performance.now() to get the time of the server
const requests = new Map(); // by key: { trace, received, item, bars, selected, open }

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
  // The message that took the shortest way shows best what time it is there.
  clock = Math.max(clock, trace.began + trace.now - performance.now());
  $("empty").hidden = true;
  show(request);
  if (trace.ms !== null && trace.method !== "GET" && trace.status < 400) refreshSoon();
}

function passed(request) {
  const { trace } = request;
  return trace.ms ?? Math.max(trace.now, performance.now() + clock - trace.began);
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
  draw();
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

function explanation(trace, step) {
  if (step.name !== "answer") return texts.explain[step.name];
  const asked = trace.steps.some((each) => each.name === "sql");
  if (trace.status === 404 && !asked) return texts.explainStatus.nowhere;
  if (trace.status >= 400) return texts.explainStatus[trace.status] ?? texts.explainStatus.other;
  const late = trace.steps.some((each) => each.name === "closed" && each.at > step.at);
  return late ? texts.explain.early : texts.explain.answer;
}

function stepName(step) {
  if (step.name !== "sql") return texts.steps[step.name];
  const { sql } = step.details;
  return `${texts.steps.sql} ${sql.length > 60 ? `${sql.slice(0, 60)} ...` : sql}`;
}

function badges(trace) {
  const steps = (name) => trace.steps.filter((step) => step.name === name);
  if (steps("commit").some((step) => !step.details.error)) return ["commit"];
  if (steps("rollback").length) return [onlyRead(trace) ? "ended" : "rollback"];
  if (trace.ms === null) return [];
  if (steps("sql").length) return ["read"];
  return steps("session").length ? ["none"] : [];
}

// A transaction that has only read ends with a ROLLBACK, too; nothing is undone by it.
function onlyRead(trace) {
  const statements = trace.steps.filter((step) => step.name === "sql");
  return statements.every(({ details }) => !details.error && /^(SELECT|WITH) /.test(details.sql));
}

function milliseconds(ms) {
  return `${ms.toLocaleString(language, { maximumFractionDigits: ms < 10 ? 2 : 0 })} ms`;
}

function readable(path) {
  try {
    return decodeURIComponent(path.replaceAll("+", " "));
  } catch {
    return path;
  }
}

// ---- Bars, drawn to scale

const LANES = { body: 0, turn: 0, thread: 0, session: 0, connection: 1, begin: 2, sql: 3, commit: 3, rollback: 3, answer: 3 };

function draw() {
  const all = [...requests.values()].sort((a, b) => a.trace.began - b.trace.began);
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
  bar.addEventListener("click", (event) => {
    event.preventDefault(); // the summary would close what the click opens
    select(request, index);
  });
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

let changed = true;
setInterval(() => {
  const going = [...requests.values()].some(({ trace }) => trace.ms === null);
  if (changed || going) {
    draw();
    showNow();
  }
  changed = false;
}, 100);

// ---- Both languages

function speak(chosen) {
  language = chosen;
  texts = TEXTS[language];
  document.documentElement.lang = language;
  document.title = texts.title;
  for (const place of document.querySelectorAll("[data-text]")) {
    place.textContent = texts[place.dataset.text];
  }
  for (const choice of document.querySelectorAll("[data-language]")) {
    choice.setAttribute("aria-pressed", String(choice.dataset.language === language));
  }
  const entries = Object.entries(texts.legend).map(([name, text]) => {
    const item = element("li", "", text);
    item.dataset.name = name;
    return item;
  });
  $("legend").replaceChildren(...entries);
  label();
  lessons.forEach(showLesson);
  requests.forEach(show);
  changed = true;
}

for (const choice of document.querySelectorAll("[data-language]")) {
  choice.addEventListener("click", () => {
    localStorage.setItem("language", choice.dataset.language);
    speak(choice.dataset.language);
    list();
  });
}
let typing;
$("search").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => {
  page = 1;
  clearTimeout(typing);
  typing = setTimeout(list, 200);
});
$("previous").addEventListener("click", () => {
  page -= 1;
  list();
});
$("next").addEventListener("click", () => {
  page += 1;
  list();
});
$("user").addEventListener("submit", save);
$("cancel").addEventListener("click", () => fill(null));

speak(language);
fill(null);
list("/watch/users");

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
