// The table of users, and the form.

import { $, button, element, texts } from "./base.js";

const PAGE_SIZE = 10;

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
export async function list(path = "/users") {
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

export function fill(user) {
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

export function label() {
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
export function refreshSoon() {
  listing ??= setTimeout(() => {
    listing = null;
    list("/watch/users");
  }, 200);
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
