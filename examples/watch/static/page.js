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

async function call(method, path, body) {
  try {
    const headers = body ? { "Content-Type": "application/json" } : {};
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const json = await answer.json();
    if (answer.ok) return { answer, json };
    const detail = json.detail;
    const said = Array.isArray(detail)
      ? detail.map((mistake) => `${mistake.loc.at(-1)}: ${mistake.msg}`).join("; ")
      : detail;
    $("message").textContent = `${answer.status}: ${said}`;
  } catch {
    $("message").textContent = texts.away;
  }
  return null;
}

async function list() {
  const asked = ++listed;
  const query = new URLSearchParams({ page, page_size: PAGE_SIZE });
  const text = $("search").query.value.trim();
  if (text) query.set("query", text);
  const result = await call("GET", `/users?${query}`);
  if (!result || asked !== listed) return; // an answer that comes late is out of date
  const total = Number(result.answer.headers.get("X-Total-Count"));
  const pages = Math.max(1, Math.ceil(total / PAGE_SIZE));
  if (page > pages) {
    page = pages;
    list();
    return;
  }
  $("rows").replaceChildren(...result.json.map(row));
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

let listing; // one list for many changes that come together
function listSoon() {
  clearTimeout(listing);
  listing = setTimeout(list, 200);
}

// ---- Lessons

function showLessons() {
  const items = Object.entries(texts.lesson).map(([name, [title, sentence]]) => {
    const item = element("li");
    const result = element("span", "result");
    result.setAttribute("role", "status");
    const start = button(title, async () => {
      start.disabled = true;
      // On a phone, the requests are further down.
      if (matchMedia("(max-width: 60rem)").matches) $("requests-title").scrollIntoView();
      result.textContent = texts.running;
      try {
        const answer = await fetch(`/watch/lessons/${name}`, { method: "POST" });
        result.textContent = `${texts.answers}: ${count(await answer.json())}`;
      } catch {
        result.textContent = texts.away;
      }
      start.disabled = false;
    });
    start.dataset.lesson = name;
    item.append(start, result, element("p", "", sentence));
    return item;
  });
  $("lessons").replaceChildren(...items);
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
  if (trace.ms !== null && trace.method !== "GET" && trace.status < 400) listSoon();
}

function passed(request) {
  const { trace } = request;
  return trace.ms ?? Math.max(trace.now, performance.now() + clock - trace.began);
}

function show(request) {
  const { trace } = request;
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
}

function select(request, index) {
  request.selected = index;
  request.open = true;
  show(request);
  draw();
  request.item.querySelectorAll("button.step")[index].focus();
}

function explain(place, trace, step) {
  const special = step.name === "answer" && texts.explainStatus[trace.status];
  const where = element("p", "where");
  where.append(element("strong", "", step.where), " ", element("code", "", step.code));
  place.append(element("p", "", special || texts.explain[step.name]), where);
  const { sql, parameters, error } = step.details;
  if (sql) {
    place.append(element("pre", "", sql));
    place.append(element("p", "", `${texts.values}: ${parameters}`));
  }
  if (error) place.append(element("p", "error", `${texts.error}: ${error}`));
}

function stepName(step) {
  if (step.name !== "sql") return texts.steps[step.name];
  const { sql } = step.details;
  return `${texts.steps.sql}: ${sql.length > 60 ? `${sql.slice(0, 60)} ...` : sql}`;
}

function badges(trace) {
  const names = new Set(trace.steps.map((step) => step.name));
  if (names.has("commit")) return ["commit"];
  if (names.has("rollback")) return ["rollback"];
  if (trace.ms === null) return [];
  if (names.has("sql")) return ["read"];
  return names.has("session") ? ["none"] : [];
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

const LANES = { turn: 0, session: 0, connection: 1, begin: 2, sql: 3, commit: 3, rollback: 3, answer: 3 };

function draw() {
  const all = [...requests.values()].sort((a, b) => a.trace.began - b.trace.began);
  let group = [];
  let end = -Infinity;
  for (const request of all) {
    if (request.trace.began > end) {
      drawGroup(group, end);
      group = [];
      end = -Infinity;
    }
    group.push(request);
    end = Math.max(end, request.trace.began + passed(request));
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
  const total = passed(request);
  const bars = trace.steps.flatMap((step, index) => {
    if (!(step.name in LANES)) return [];
    let ms = step.ms ?? (trace.ms === null ? total - step.at : 0);
    if (step.name === "begin") {
      const last = trace.steps.find(
        (other) => other.at >= step.at && ["commit", "rollback"].includes(other.name),
      );
      ms = (last ? last.at + (last.ms ?? 0) : total) - step.at;
    }
    const bar = element("span", "bar");
    bar.dataset.name = step.name;
    bar.dataset.lane = LANES[step.name];
    if (step.details.error) bar.dataset.error = "";
    bar.style.left = `${(offset + step.at) * scale}%`;
    bar.style.width = `${ms * scale}%`;
    bar.title = `${stepName(step)}, ${milliseconds(ms)}`;
    bar.addEventListener("click", (event) => {
      event.preventDefault(); // the summary would close what the click opens
      select(request, index);
    });
    return [bar];
  });
  if (trace.ms === null && !trace.steps.length) {
    const bar = element("span", "bar");
    bar.dataset.name = "turn";
    bar.dataset.lane = 0;
    bar.style.left = `${offset * scale}%`;
    bar.style.width = `${total * scale}%`;
    bars.push(bar);
  }
  request.bars.replaceChildren(...bars);
}

function showNow() {
  const going = [...requests.values()].filter(({ trace }) => trace.ms === null);
  const having = (name) =>
    going.filter(({ trace }) => trace.steps.some((step) => step.name === name && step.ms === null));
  const waiting = going.filter(({ trace }) => !trace.steps.length);
  const numbers = [going, waiting, having("session"), having("connection")].map((all) => all.length);
  $("now").textContent = texts.now(...numbers);
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
  showLessons();
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
$("search").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => {
  page = 1;
  listSoon();
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
list();
new EventSource("/watch/events").addEventListener("message", (event) => {
  receive(JSON.parse(event.data));
  changed = true;
});
