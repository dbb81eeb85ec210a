// What every file of the page needs: both languages, and shorter words for the DOM. Whatever comes from
// the server is set with textContent, never as markup.

import { TEXTS } from "./texts.js";

export const $ = (id) => document.getElementById(id);

export let language = localStorage.getItem("language") ?? document.documentElement.lang;
export let texts = TEXTS[language];

export function choose(chosen) {
  language = chosen;
  texts = TEXTS[chosen];
  localStorage.setItem("language", chosen);
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, action, className) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}
