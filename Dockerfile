# syntax=docker/dockerfile:1
# The gateway and the demo server in one small image that runs as nobody in particular.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# The caches live outside the layers, so the binaries are copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p undercurrent -p undercurrent-demo \
 && install -D -t /out target/release/undercurrent target/release/undercurrent-demo

FROM debian:bookworm-slim
# Upstreams may speak TLS: their certificates are checked against the system's roots.
RUN apt-get update \
 && apt-get install --no-install-recommends -y ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 undercurrent \
 && useradd --system --uid 10001 --gid undercurrent --home-dir /data --no-create-home undercurrent \
 && install -d -o undercurrent -g undercurrent -m 0700 /data
COPY --from=build /out/ /usr/local/bin/
USER 10001:10001
ENV UNDERCURRENT_DATA=/data
VOLUME /data
EXPOSE 8808 8809
STOPSIGNAL SIGTERM
ENTRYPOINT ["undercurrent"]
CMD ["serve", "--listen", "0.0.0.0:8808", "--admin", "0.0.0.0:8809"]
