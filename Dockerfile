# syntax=docker/dockerfile:1
# One image with all programs, for amd64 and arm64:
#
#   docker build -t tributary .                                                        # tributary-aggregator, tributary-proxy, tributary
#   docker build --target aggregator -t tributary-aggregator .                         # the same with an entry point and a health check
#   docker build --target proxy -t tributary-proxy .
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example/tributary --push .
#
# Each platform is built by itself, on a builder of that platform or by emulation: C is compiled into the programs (mimalloc, ring), and
# a cross compiler for all of it would be one more thing to keep right.
ARG RUST_VERSION=1.89

FROM rust:${RUST_VERSION}-bookworm AS build
ARG TARGETARCH
# Features beside the default ones, as cargo takes them. `tributary-aggregator/kafka-tls-vendored` is Kafka by TLS with an OpenSSL of its own; the image
# of the compiler has what that needs (perl, make, gcc).
ARG FEATURES=""
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,id=tributary-registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=tributary-target-${TARGETARCH},sharing=locked \
    cargo build --release --locked --bins \
        -p tributary-aggregator -p tributary-proxy -p tributary-integration \
        --features "${FEATURES}" \
    && install -D --strip --target-directory=/out/bin \
        target/release/tributary-aggregator target/release/tributary-proxy target/release/tributary \
    && install -d /out/data

# glibc, libgcc, the CAs that everybody trusts, and no shell. Not static: the programs resolve names by the system's resolver, whose plug-ins
# a static one cannot load. Its glibc is that of the image that built them, Debian 12 both.
FROM gcr.io/distroless/cc-debian12:nonroot AS programs
COPY --from=build /out/bin/ /usr/local/bin/
# Spools and state, of the user who runs the programs. Mount a volume here to keep them.
COPY --from=build --chown=65532:65532 /out/data /var/lib/tributary
# A number, so that an orchestrator can tell that it is not root.
USER 65532:65532
WORKDIR /var/lib/tributary
LABEL org.opencontainers.image.title="Tributary" \
      org.opencontainers.image.description="A metrics pipeline that speaks Veneur's protocols: agent, proxy, global" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# It asks the programs to leave; give them more than shutdown_timeout: docker stop --time 40, stop_grace_period, terminationGracePeriodSeconds.
STOPSIGNAL SIGTERM

FROM programs AS aggregator
EXPOSE 8126/udp 8127/tcp 8128/tcp
ENTRYPOINT ["tributary-aggregator"]
CMD ["-f", "/etc/tributary/aggregator.yaml"]
# It asks http_address of the file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["tributary-aggregator", "--healthcheck", "-f", "/etc/tributary/aggregator.yaml"]

FROM programs AS proxy
EXPOSE 8227/tcp 8228/tcp
ENTRYPOINT ["tributary-proxy"]
CMD ["-f", "/etc/tributary/proxy.yaml"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["tributary-proxy", "--healthcheck", "-f", "/etc/tributary/proxy.yaml"]

# The last one is what is built when nobody says which: for orchestrators, which name the program and have probes of their own.
FROM programs AS tributary
EXPOSE 8126/udp 8127/tcp 8128/tcp 8227/tcp 8228/tcp
CMD ["tributary-aggregator"]
