# The service with the packages for PostgreSQL and Redis. The image contains no secret: settings come at the start.
FROM python:3.13-slim

WORKDIR /srv
COPY requirements-replicas.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements-replicas.txt \
    && useradd --system --uid 10001 --no-create-home chatapi \
    && install -d -m 0700 -o chatapi data
COPY app.py ./
COPY chatapi/ chatapi/
# Compiled here: the file system may be read-only, and each start would compile all modules.
RUN python -m compileall -q app.py chatapi

USER 10001
ENV HOST=0.0.0.0 PORT=8000 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# The SQLite file and its secret. Without a named volume, each new container starts without conversations.
VOLUME /srv/data
# During a drain the health check fails, so that balancers send nothing more.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s CMD \
    ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/readyz\", timeout=2)"]
CMD ["python", "app.py"]
