import asyncio

from httpx2 import AsyncClient


async def ask_ten_times(server):
    for _ in range(10):
        answer = await server.get("/users")
        answer.raise_for_status()


async def main():
    async with AsyncClient(base_url="http://localhost:8000", timeout=5) as server:
        clients = [ask_ten_times(server) for _ in range(100)]
        results = await asyncio.gather(*clients, return_exceptions=True)
    print(results.count(None), "of 100 clients got their answers")


asyncio.run(main())
