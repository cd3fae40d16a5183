# docker build --build-arg GIT_SHA="$(git rev-parse HEAD)" --tag honestloop .
# docker run --rm honestloop                    the verdict
# docker run --rm honestloop make test          everything
FROM python:3.11.14-slim-bookworm

# git: a manifest names the commit, which it reads from the .git that COPY brings along.
# libgomp1: numba's OpenMP threading layer.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgomp1 make \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /honestloop

WORKDIR /honestloop
COPY Makefile requirements.lock ./
RUN make install
COPY . .

ARG GIT_SHA=unknown
LABEL org.opencontainers.image.title="honestloop" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${GIT_SHA}"

CMD ["make", "gates"]
