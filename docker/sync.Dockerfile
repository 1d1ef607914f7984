# The sync job and the command line. Build from the repository's root: docker build -f docker/sync.Dockerfile .
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /src
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN python -m venv /build && /build/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/build.lock \
 && python -m venv /opt/owui-budget \
 && /opt/owui-budget/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY owui_budget owui_budget
COPY owui_budget_sync owui_budget_sync
COPY hooks hooks
RUN /build/bin/hatchling build -t wheel -d /wheels && /opt/owui-budget/bin/pip install --quiet --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.12.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin owui-budget
COPY --from=build /opt/owui-budget /opt/owui-budget
ENV PATH=/opt/owui-budget/bin:$PATH PYTHONUNBUFFERED=1
USER owui-budget
EXPOSE 8090
CMD ["owui-budget", "run"]
