# Two images from one lock file: `job` has Ray, `api` has not.
#   podman build --target job -t storecast:job .
#   podman build --target api -t storecast:api .
# Both run as user 10001 on a read-only root file system; they write to /tmp, the API also to its cache.

FROM python:3.11-slim-bookworm AS base
# No PYTHONDONTWRITEBYTECODE: what is not compiled here (an engineer's working directory) would be
# compiled by each of Ray's workers, every time.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1
# Named, because Ray asks who it is.
RUN groupadd --gid 10001 storecast \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin storecast
WORKDIR /tmp
LABEL org.opencontainers.image.title=storecast \
      org.opencontainers.image.description="Nightly forecasts of every store's sales, and the API that serves them" \
      org.opencontainers.image.licenses=Apache-2.0

FROM base AS build
# The system's certificates, so that a proxy whose certificate is added to the image is trusted.
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never UV_PYTHON=/usr/local/bin/python3.11 UV_SYSTEM_CERTS=1
RUN pip install --no-cache-dir --root-user-action=ignore uv==0.13.9 hatchling==1.33.0
WORKDIR /src

# What to install, told from the lock file without the rest of pyproject.toml: a change of a tool's
# settings there installs nothing again. The same time on every file, because the cache looks at it.
FROM build AS requirements
COPY pyproject.toml uv.lock ./
RUN export="uv export --quiet --frozen --no-dev --no-emit-project --no-header" \
    && $export --extra job --output-file job.txt \
    && $export --extra api --no-emit-package numpy --output-file api.txt \
    && touch --date=@0 job.txt api.txt

FROM build AS job-dependencies
COPY --from=requirements /src/job.txt ./
RUN uv venv --quiet /opt/venv && uv pip install --quiet --python /opt/venv/bin/python --no-deps \
    --require-hashes --requirements job.txt

# The API reads Parquet and Arrow files, on disk and on Cloud Storage. What it never loads stays out:
# numpy, Arrow's other services, headers, sources and tests, the file watcher, symbols for linkers and debuggers.
FROM build AS api-dependencies
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils
COPY --from=requirements /src/api.txt ./
RUN uv venv --quiet /opt/venv && uv pip install --quiet --python /opt/venv/bin/python --no-deps \
    --require-hashes --requirements api.txt \
    && cd /opt/venv/lib/python3.11/site-packages \
    && rm -r pyarrow/include pyarrow/src pyarrow/tests pyarrow/_flight* pyarrow/_s3fs* \
       pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/libarrow_s3* \
       pyarrow/libarrow_python.so pyarrow/libarrow_python.so.*.* watchfiles* \
    && find . -name '*.p[xy][dix]' -delete \
    && find . -name '*.so*' -type f -exec strip --strip-unneeded {} +

# The project alone, so that a change of it changes one small layer of each image, and needs no network.
FROM build AS project
COPY pyproject.toml README.md LICENSE ./
COPY ray_job ray_job
COPY api api
RUN hatchling build --target wheel --directory /wheel \
    && uv venv --quiet /opt/venv \
    && uv pip install --quiet --offline --python /opt/venv/bin/python --no-deps /wheel/*.whl \
    && mkdir /site && mv /opt/venv/lib/python3.11/site-packages/* /site/

# The revision comes last in both images, because all that follows it is made again for each commit.
FROM base AS job
# wget and bash: probes that KubeRay before 1.6 puts into Ray's containers.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends bash wget \
    && rm -rf /var/lib/apt/lists/*
COPY --from=job-dependencies /opt/venv /opt/venv
COPY --from=project /opt/venv/bin/storecast /opt/venv/bin/storecast
COPY --from=project /site/ /opt/venv/lib/python3.11/site-packages/
# KubeRay's operator may start commands in a login shell, whose PATH is /etc/profile's.
RUN ln -s /opt/venv/bin/ray /opt/venv/bin/storecast /usr/local/bin/
ARG REVISION=unknown
LABEL org.opencontainers.image.revision=$REVISION
ENV STORECAST_REVISION=$REVISION
USER 10001:10001
CMD ["storecast", "--help"]

FROM base AS api
COPY --from=api-dependencies /opt/venv /opt/venv
COPY --from=project /site/api /opt/venv/lib/python3.11/site-packages/api
COPY --from=project /site/ray_job/__init__.py /opt/venv/lib/python3.11/site-packages/ray_job/__init__.py
COPY --from=project /site/ray_job/bucket /opt/venv/lib/python3.11/site-packages/ray_job/bucket
ARG REVISION=unknown
LABEL org.opencontainers.image.revision=$REVISION
ENV STORECAST_API_HOST=0.0.0.0 STORECAST_API_PORT=8080
EXPOSE 8080
USER 10001:10001
CMD ["python", "-m", "api"]
