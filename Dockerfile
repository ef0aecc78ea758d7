ARG PYTHON=python:3.13-slim-trixie

# Debian 13 and not 12: SQLite 3.40 there has a bug in its write-ahead log.
FROM ${PYTHON} AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# The tools that build the wheel stay here; only /opt/rexecutor goes on.
RUN python -m venv /opt/build && python -m venv /opt/rexecutor

COPY requirements/base.txt requirements/build.txt /src/requirements/
RUN /opt/build/bin/pip install --require-hashes -r /src/requirements/build.txt \
    && /opt/rexecutor/bin/pip install --require-hashes -r /src/requirements/base.txt

COPY README.md LICENSE LICENSE-MIT LICENSE-APACHE pyproject.toml hatch_build.py /src/
COPY alembic /src/alembic
COPY app /src/app
COPY client /src/client
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist /src /src/client \
    && /opt/rexecutor/bin/pip install --no-deps --no-index /dist/*.whl \
    && /opt/rexecutor/bin/pip uninstall --yes pip


FROM ${PYTHON}

LABEL org.opencontainers.image.title="rexecutor-server" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

RUN groupadd --system --gid 10001 rexecutor \
    && useradd --system --uid 10001 --gid rexecutor --home-dir /data --no-create-home rexecutor \
    && install --directory --owner=rexecutor --group=rexecutor --mode=0750 /data

COPY --from=builder /opt/rexecutor /opt/rexecutor

ENV PATH=/opt/rexecutor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    REXECUTOR_HOST=0.0.0.0 \
    REXECUTOR_DATABASE_URL=sqlite:////data/rexecutor.db

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('REXECUTOR_PORT', '8000') + '/readyz', timeout=2)"]

CMD ["rexecutor", "serve"]
