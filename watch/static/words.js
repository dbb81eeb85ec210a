// What a trace says in words.

import { language, texts } from "./base.js";

export function explanation(trace, step) {
  if (step.name === "rollback" && onlyRead(trace)) return texts.explain.ended;
  if (step.name !== "answer") return texts.explain[step.name];
  const asked = trace.steps.some((each) => each.name === "sql");
  if (trace.status === 404 && !asked) return texts.explainStatus.nowhere;
  if (trace.status === 422 && asked) return texts.explainStatus.other; // the database refused a value
  if (trace.status >= 400) return texts.explainStatus[trace.status] ?? texts.explainStatus.other;
  const late = trace.steps.some((each) => each.name === "closed" && each.at > step.at);
  return late ? texts.explain.early : texts.explain.answer;
}

export function stepName(step) {
  if (step.name !== "sql") return texts.steps[step.name];
  const { sql } = step.details;
  return `${texts.steps.sql} ${sql.length > 60 ? `${sql.slice(0, 60)} ...` : sql}`;
}

export function badges(trace) {
  const steps = (name) => trace.steps.filter((step) => step.name === name);
  if (steps("commit").some((step) => !step.details.error)) return ["commit"];
  if (steps("rollback").length) return [onlyRead(trace) ? "ended" : "rollback"];
  if (trace.ms === null) return [];
  if (steps("sql").length) return ["read"];
  return steps("session").length ? ["none"] : [];
}

// A transaction that has only read ends with a ROLLBACK, too; nothing is undone by it.
export function onlyRead(trace) {
  const statements = trace.steps.filter((step) => step.name === "sql");
  return statements.every(({ details }) => !details.error && /^(SELECT|WITH) /.test(details.sql));
}

export function milliseconds(ms) {
  return `${ms.toLocaleString(language, { maximumFractionDigits: ms < 10 ? 2 : 0 })} ms`;
}

export function readable(path) {
  try {
    return decodeURIComponent(path.replaceAll("+", " "));
  } catch {
    return path;
  }
}
