# Serves the clstr profile on port 8080, with its data in /app/data. Every option is also a variable: KVTWIST_PROFILE...

FROM python:3.12-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml setup.py ./
COPY kvtwist kvtwist
COPY twisted twisted
# The venv has no pip of its own, so pip does not get into the second stage.
RUN python -m venv --without-pip /opt/kvtwist && \
    python -m pip --python /opt/kvtwist/bin/python install --no-cache-dir --constraint constraints.txt .
# Make Twisted's plugin cache, which it would rewrite at each start unless it is a second newer than the plugins; a server
# that may not write there logs an error.
RUN sleep 1 && /opt/kvtwist/bin/twistd kvstore --help >/dev/null

FROM python:3.12-slim
COPY --from=build /opt/kvtwist /opt/kvtwist
COPY deploy/healthcheck.py /app/
# 1000 owns most bind mounts. Mode 777 lets any other --user write to a new volume.
RUN useradd --uid 1000 --no-create-home kvtwist && \
    install --directory --owner kvtwist --group kvtwist --mode 777 /app/data
WORKDIR /app
USER 1000:1000
ENV PATH=/opt/kvtwist/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KVTWIST_PROFILE=clstr \
    KVTWIST_INTERFACE=0.0.0.0 \
    KVTWIST_PORT=8080 \
    DATA_DIR=/app/data
VOLUME /app/data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["python", "/app/healthcheck.py"]
ENTRYPOINT ["twistd", "-n", "--pidfile=", "kvstore"]
