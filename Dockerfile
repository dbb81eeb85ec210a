# What production needs, and nothing else: `docker build -t users .`, then
# `docker run -p 8000:8000 -v users:/data users`, with SQLite, or `-e DATABASE_URL=postgresql://...`.

FROM python:3.14-slim AS packages
RUN python -m venv /venv
COPY requirements-production.txt constraints.txt /
RUN /venv/bin/pip install --no-cache-dir --requirement /requirements-production.txt

FROM python:3.14-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=packages /venv /venv
WORKDIR /app
COPY pyproject.toml *.py ./
COPY core core
COPY migrations migrations
# The only folder that may be written to: the rest of the system may be mounted read-only.
RUN install --directory --owner=10001 --group=10001 /data
ENV DATABASE_URL=sqlite:////data/app.db PORT=8000
VOLUME /data
USER 10001:10001
EXPOSE 8000
HEALTHCHECK CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$PORT/livez', timeout=2)"
# One worker: an orchestrator starts more containers, and sees how each of them ends.
# Platforms say in PORT where it has to listen. `exec`: it is told to stop, and not a shell.
CMD ["sh", "-c", "exec uvicorn main:app --host 0.0.0.0 --port $PORT --timeout-graceful-shutdown 10"]
