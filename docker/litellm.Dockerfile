# LiteLLM's published image and our hooks. Build from the repository's root: docker build -f docker/litellm.Dockerfile .
#
# 1.107.0 is a compromised release: never use it.
ARG LITELLM_IMAGE=ghcr.io/berriai/litellm:main-v1.106.2-stable

FROM python:3.12.12-slim-bookworm AS build
WORKDIR /src
COPY requirements/build.lock requirements/bootstrap.lock requirements/
RUN python -m venv /build \
 && /build/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/build.lock -r requirements/bootstrap.lock
COPY pyproject.toml README.md LICENSE ./
COPY owui_budget owui_budget
COPY owui_budget_sync owui_budget_sync
COPY hooks hooks
RUN /build/bin/hatchling build -t wheel -d /wheels

FROM ${LITELLM_IMAGE}
USER root
COPY requirements/runtime.lock docker/missing_requirements.py /tmp/owui-budget/
COPY --from=build /build/bin/uv /tmp/owui-budget/uv
COPY --from=build /wheels /tmp/owui-budget/wheels
# Into the environment that runs LiteLLM, whichever it is. What LiteLLM brought stays at its versions: only packages that
# are not there at all are installed, from the lock.
RUN set -eu; cd /tmp/owui-budget; \
    python="$(head -n 1 "$(command -v litellm)" | sed 's/^#! *//; s/ .*//')"; \
    "$python" missing_requirements.py runtime.lock > missing.lock; \
    install="./uv pip install --quiet --no-cache --python $python --break-system-packages --no-deps"; \
    $install --require-hashes -r missing.lock; \
    $install wheels/*.whl; \
    "$python" -c 'import owui_budget_hooks, owui_budget'; \
    mkdir -p /var/lib/owui-budget/spool; \
    rm -rf /tmp/owui-budget
