// What React Admin and Refine do with users: node admin.mjs http://localhost:8000/admin
import assert from "node:assert/strict";
import refine from "@refinedev/simple-rest";
import simpleRest from "ra-data-simple-rest";

const [, , api] = process.argv;
const names = ({ data, total }) => [data.map(({ name }) => name).join(), total];
const refused = async (call) => call().then(() => assert.fail("not refused"), (error) => error);

// In Node, a package for bundlers may be a level deeper.
const provider = (simpleRest.default ?? simpleRest)(api);
const counted = (simpleRest.default ?? simpleRest)(api, undefined, "X-Total-Count");
const page = (number, perPage, filter = {}, field = "name", order = "DESC") => ({
  pagination: { page: number, perPage }, sort: { field, order }, filter,
});

const made = [];
for (const name of ["Ada", "Bob", "Cyd", "Dan", "Eve"]) {
  const data = { name, email: `${name}@example.com`, is_active: name !== "Bob" };
  made.push((await provider.create("users", { data })).data);
}
assert.deepEqual(made.map(({ id }) => id), [1, 2, 3, 4, 5]);
for (const each of [provider, counted]) {
  assert.deepEqual(names(await each.getList("users", page(1, 2))), ["Eve,Dan", 5]);
  assert.deepEqual(names(await each.getList("users", page(3, 2))), ["Ada", 5]);
  assert.deepEqual(names(await each.getList("users", page(4, 2))), ["", 5]);
  assert.deepEqual(names(await each.getList("users", page(1, 9, { q: "ADA" }))), ["Ada", 1]);
  assert.deepEqual(names(await each.getList("users", page(1, 9, { is_active: false }, "id", "ASC"))), ["Bob", 1]);
  assert.deepEqual(names(await each.getList("users", {})), ["Ada,Bob,Cyd,Dan,Eve", 5]);
}
const of = { ...page(1, 2), target: "is_active", id: true };
assert.deepEqual(names(await provider.getManyReference("users", of)), ["Eve,Dan", 4]);
assert.equal((await provider.getOne("users", { id: 2 })).data.name, "Bob");
assert.equal(names(await provider.getMany("users", { ids: [3, 1, 99] }))[0], "Cyd,Ada");
const changed = await provider.update("users", { id: 1, data: { ...made[0], name: "Grace" }, previousData: made[0] });
assert.equal(changed.data.name, "Grace");
assert.deepEqual(await provider.updateMany("users", { ids: [3, 4], data: { is_active: false } }), { data: [3, 4] });
assert.deepEqual(await provider.delete("users", { id: 5, previousData: made[4] }), { data: { id: 5 } });
assert.deepEqual(await provider.deleteMany("users", { ids: [3, 4] }), { data: [3, 4] });
let error = await refused(() => provider.create("users", { data: { name: "Ada", email: "BOB@example.com" } }));
assert.deepEqual([error.status, error.message], [409, "Email already registered"]);
error = await refused(() => provider.create("users", { data: { name: "", email: "bob" } }));
assert.equal(error.status, 422);
assert.match(error.message, /^name: String should have at least 1 character; email: /);
assert.deepEqual(Object.keys(error.body.errors), ["name", "email"]);
error = await refused(() => provider.getOne("users", { id: 5 }));
assert.deepEqual([error.status, error.message], [404, "User not found"]);

const { getList, getOne, getMany, create, update, deleteOne } = refine(api);
const resource = "users";
const sorters = [{ field: "name", order: "desc" }];
await create({ resource, variables: { name: "Fay", email: "fay@example.com" } });
assert.deepEqual(names(await getList({ resource, sorters, pagination: { currentPage: 1, pageSize: 2 } })), ["Grace,Fay", 3]);
assert.deepEqual(names(await getList({ resource, sorters, pagination: { currentPage: 2, pageSize: 2 } })), ["Bob", 3]);
const filters = [{ field: "is_active", operator: "eq", value: false }];
assert.deepEqual(names(await getList({ resource, filters, pagination: { mode: "off" } })), ["Bob", 1]);
assert.equal((await getOne({ resource, id: 2 })).data.name, "Bob");
assert.equal(names(await getMany({ resource, ids: [2, 1] }))[0], "Bob,Grace");
assert.equal((await update({ resource, id: 2, variables: { name: "Ben" } })).data.name, "Ben");
assert.deepEqual((await deleteOne({ resource, id: 2 })).data, { id: 2 });
error = await refused(() => create({ resource, variables: { name: "Fay", email: "fay@example.com" } }));
assert.deepEqual([error.statusCode, error.message], [409, "Email already registered"]);

for (const [query, why] of [
  ["range=[5,14]", "5 to 14 is no whole page"],
  ["range=[9,0]", "is no whole page"],
  ["range=[0", "Invalid JSON"],
  ["range=[0,1000]", "page_size"],
  ["range=[-1,8]", "greater than or equal to 0"],
  ['sort=["colour","ASC"]', "order_by"],
  ['sort=["name","UP"]', "'ASC' or 'DESC'"],
  ["filter=[1]", "dictionary"],
  ['filter={"page":7}', "no filter: page"],
  ['filter={"colour":"red"}', "colour"],
  ['filter={"id":5}', "ids"],
  ["name_like=A", "name_like"],
  ["id=x", "ids"],
  ["_start=3&_end=10", "no whole page"],
]) {
  const answer = await fetch(`${api}/users?${query}`);
  assert.equal(answer.status, 422, query);
  assert.ok((await answer.json()).message.includes(why), query);
}
console.log("done");
