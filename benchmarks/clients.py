"""HTTP clients in a process of their own, for machines without wrk.

`python -m benchmarks.clients CALL URL CLIENTS SECONDS` prints a JSON list: answers with a 2xx per
second, and the milliseconds that half and 99 % of them took.
"""

import asyncio
import json
import sys
import time
from itertools import count

import aiohttp


async def measure(call: str, url: str, clients: int, seconds: float) -> tuple[float, float, float]:
    """Let each client send one request after the other; see the module for what is returned."""
    times: list[float] = []
    numbers = count()
    end = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        while (start := time.perf_counter()) < end:
            email = f"u{time.time_ns()}.{next(numbers)}@example.com"
            body = {"name": "Ada Lovelace", "email": email} if call.startswith("POST") else None
            try:
                async with session.request("POST" if body else "GET", url, json=body) as answer:
                    await answer.read()
            except TimeoutError:
                continue
            if answer.ok:
                times.append((time.perf_counter() - start) * 1000)

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(seconds + 1)
    ) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    times.sort()
    if not times:
        return 0, 0, 0
    return len(times) / seconds, times[len(times) // 2], times[len(times) * 99 // 100]


if __name__ == "__main__":
    call, url, clients, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(call, url, int(clients), float(seconds)))))
