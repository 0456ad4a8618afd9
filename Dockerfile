# The image: Node, two bundles, both variants of iptables, and the libraries they need; no shell, no package manager.
# `docker build .` makes it; `--target debug` makes one on Debian with nft, ipvsadm, conntrack and tcpdump, for people.
# For linux/amd64 and linux/arm64; built on the processor it is for, or with its emulation. Digests pin the bases:
# `--build-arg BASE_DIGEST=@sha256:…`. Files below deploy/image say what goes in, also for scripts/image-rootfs.mjs.
ARG BUILD_IMAGE=node:24-bookworm-slim
ARG BUILD_DIGEST=
ARG BASE_IMAGE=debian:bookworm-slim
ARG BASE_DIGEST=

FROM ${BUILD_IMAGE}${BUILD_DIGEST} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build && deploy/image/app . /app

FROM ${BASE_IMAGE}${BASE_DIGEST} AS debian
COPY deploy/image/ /image/
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(cat /image/packages) \
 && rm -rf /var/lib/apt/lists/*

FROM debian AS debug
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(cat /image/debug-packages) \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /app/ /
ENV NODE_OPTIONS=--max-old-space-size=512
ENTRYPOINT ["/usr/local/bin/kubeplumb"]

FROM debian AS rootfs
COPY --from=build /app/ /rootfs/
RUN /image/system /rootfs

FROM scratch AS release
COPY --from=rootfs /rootfs/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Far above what large clusters need, and below the memory limit of daemonset.yaml.
ENV NODE_OPTIONS=--max-old-space-size=512
LABEL org.opencontainers.image.title=kubeplumb \
      org.opencontainers.image.description="A node-level replacement for kube-proxy" \
      org.opencontainers.image.licenses=Apache-2.0
ENTRYPOINT ["/usr/local/bin/kubeplumb"]
