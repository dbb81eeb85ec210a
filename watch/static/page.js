// The page, in both languages.

import { $, choose, element, language, texts } from "./base.js";
import { lessons, showLesson } from "./lessons.js";
import { showAll } from "./requests.js";
import { fill, label, list } from "./users.js";

function speak() {
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
  showAll();
}

for (const choice of document.querySelectorAll("[data-language]")) {
  choice.addEventListener("click", () => {
    choose(choice.dataset.language);
    speak();
    list();
  });
}

speak();
fill(null);
list("/watch/users");
