-- For wrk: every request creates a user with an email of its own.
local run = tostring({}):sub(-8) -- an address, another one in each run
local number = 0

function request()
  number = number + 1
  local email = string.format("%s.%d@example.com", run, number)
  local body = string.format('{"name": "Ada Lovelace", "email": "%s"}', email)
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
end
