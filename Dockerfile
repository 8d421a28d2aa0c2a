# The clstr dialect on port 8080, data in /app/data. Every option of `twistd kvstore` is also a variable: KVTWIST_PROFILE...

FROM python:3.12-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml setup.py ./
COPY kvtwist kvtwist
COPY twisted twisted
# The venv has no pip of its own: what installs stays behind in this stage.
RUN python -m venv --without-pip /opt/kvtwist && \
    python -m pip --python /opt/kvtwist/bin/python install --no-cache-dir --constraint constraints.txt .
# Twisted keeps a cache of its plugins beside them, and renews it unless it is newer than they are by a whole second,
# which a server that may not write there would complain about.
RUN sleep 1 && /opt/kvtwist/bin/twistd kvstore --help >/dev/null

FROM python:3.12-slim
COPY --from=build /opt/kvtwist /opt/kvtwist
COPY deploy/healthcheck.py /app/
# 1000 is the owner of most bind mounts. Any other --user may write to a new volume, too.
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
