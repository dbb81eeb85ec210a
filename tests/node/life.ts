// The life of a user, by a client with the types that openapi-typescript has made.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });
const seen: components["schemas"]["UserRead"][] = [];

const ada = { name: "Ada", email: "ada@example.com", is_active: true };
const created = await client.POST("/users", { body: ada });
if (!created.data || created.response.headers.get("Location") !== "/users/1") throw "not created";
const taken = await client.POST("/users", { body: ada });
if (taken.error?.detail !== "Email already registered") throw "not refused";
const wrong = await client.POST("/users", { body: { ...ada, email: "x" } });
if (wrong.response.status !== 422) throw "not checked";
for (let number = 0; number < 4; number++) {
  await client.POST("/users", { body: { ...ada, email: `${number}@example.com` } });
}

let page: number | undefined = 1;
while (page) {
  const { data, response } = await client.GET("/users", {
    params: { query: { page, page_size: 2, order_by: "-id" } },
  });
  if (!data || response.headers.get("X-Total-Count") !== "5") throw "not listed";
  seen.push(...data);
  const link: string = response.headers.get("Link") ?? "";
  const next: RegExpMatchArray | null = link.match(/page=(\d+)>; rel="next"/);
  page = next ? Number(next[1]) : undefined;
}
if (seen.map((user) => user.id).join() !== "5,4,3,2,1") throw "not all of them";

const path = { user_id: 1 };
const changed = await client.PATCH("/users/{user_id}", {
  params: { path },
  body: { is_active: false },
});
if (changed.data?.is_active !== false) throw "not changed";
await client.DELETE("/users/{user_id}", { params: { path } });
const gone = await client.GET("/users/{user_id}", { params: { path } });
if (gone.error === undefined || !("detail" in gone.error)) throw "not a Detail";
if (gone.response.status !== 404 || gone.error.detail !== "User not found") throw "not gone";
console.log("lived");
