// The buttons of the lessons.

import { $, button, element, texts } from "./base.js";
import { refreshSoon } from "./users.js";

export const lessons = Object.keys(texts.lesson).map((name) => {
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

export function showLesson(lesson) {
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
