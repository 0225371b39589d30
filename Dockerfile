# syntax=docker/dockerfile:1
# docker build -t epp-pd:0.1.0 .
#
# The steps are scripts/setup and scripts/dist, which tests run too: nothing is built here in another way.
FROM swift:6.3-bookworm AS build
WORKDIR /src
# What changes rarely comes first: Debian packages, then Swift packages.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends \
    libnghttp2-dev libssl-dev libcurl4-openssl-dev zlib1g-dev liblz4-dev libxxhash-dev libzmq3-dev \
    libprotobuf-c-dev libsimdjson-dev libstdc++-12-dev pkg-config binutils \
    && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/src/.build scripts/dist /out && mv /out/epp-pd-*-linux-*/ /out/epp-pd

# glibc and CA certificates, no shell, no package manager; its user 65532 is not root.
FROM gcr.io/distroless/base-nossl-debian12:nonroot
COPY --from=build /out/epp-pd /usr/lib/epp-pd
ENV PATH=/usr/lib/epp-pd:/usr/bin
USER 65532:65532
# External processing, gRPC health, metrics and probes.
EXPOSE 9002 9003 9090
ENTRYPOINT ["/usr/lib/epp-pd/epp-pd"]
CMD ["serve", "--help"]
