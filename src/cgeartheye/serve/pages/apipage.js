// A list of the API's operations, made of its own description.

import { $, el } from "./dom.js";

const METHODS = ["get", "post", "put", "delete"];
const EXAMPLE = `curl -X POST ADDRESS/processes/APPLICATION/execution \\
  -H 'Content-Type: application/json' -H 'Prefer: respond-async' \\
  -d '{"inputs": {"scene": "ID of GET /scenes"}}'`;

function typeOf(schema = {}, schemas) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(one, schemas)).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items, schemas)}`;
  return schema.type ?? "any";
}

function operation(path, method, facts, schemas) {
  const rows = (facts.parameters ?? []).map((one) => [one.name, one.in, typeOf(one.schema, schemas), one.description]);
  const body = facts.requestBody?.content?.["application/json"]?.schema;
  const named = body?.$ref && schemas[body.$ref.split("/").at(-1)];
  for (const [name, schema] of Object.entries(named?.properties ?? {})) {
    rows.push([name, "body", typeOf(schema, schemas), schema.description]);
  }
  const row = (cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell ?? "")));
  const codes = Object.entries(facts.responses).map(([code, one]) => `${code} ${one.description}`);
  return el(
    "details",
    {},
    el("summary", {}, el("b", { class: method }, method.toUpperCase()), el("code", {}, path), el("span", {}, facts.description?.split("\n")[0] ?? "")),
    el("div", { class: "body" }, rows.length ? el("table", {}, rows.map(row)) : null, el("p", {}, codes.join(" · "))),
  );
}

const { paths, components } = await (await fetch("openapi.json")).json();
$("#example").textContent = EXAMPLE.replace("ADDRESS", new URL(".", document.baseURI).href.replace(/\/$/, ""));
const groups = Map.groupBy(
  Object.entries(paths).flatMap(([path, found]) => METHODS.filter((m) => found[m]).map((m) => [path, m, found[m]])),
  ([, , facts]) => facts.tags?.[0] ?? "other",
);
for (const [name, found] of groups) {
  $("#operations").append(el("h2", {}, name), ...found.map(([path, m, facts]) => operation(path, m, facts, components.schemas ?? {})));
}
