# A world in a container: one program, one volume, no root. See packaging/README.md.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p server --bin ecumene

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /data --no-create-home ecumene \
    && install -d -o ecumene -g ecumene -m 0700 /data
COPY --from=build /src/target/release/ecumene /usr/local/bin/ecumene
USER ecumene
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["ecumene"]
CMD ["serve"]
