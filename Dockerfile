# The daemon as an image: one static binary, no shell, no account but an unprivileged one.
#
#   docker build -t registryd .
#   docker run -p 127.0.0.1:5000:5000 -v registryd-cache:/var/cache/registryd -v registryd-store:/var/lib/registryd registryd

FROM golang:1.26-bookworm AS build
WORKDIR /src
# Modules first: a change of the code alone then does not fetch them again.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What `registryd version` says: docker build --build-arg VERSION=v1.2.3. The history is not asked, because
# a linked working tree has none in here, and the build would fail on it.
ARG VERSION=
# Without cgo the binary needs no libc, and the final image can be empty. -trimpath makes the build
# the same wherever it runs.
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -X main.version=$VERSION" -o /out/registryd ./cmd/registryd
# The folders that the daemon may write to, made here because the final image has no mkdir.
RUN mkdir -p /out/root/var/cache/registryd /out/root/var/lib/registryd /out/root/tmp

FROM scratch
# Upstreams are asked over https: without these no certificate can be checked.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# Named volumes take over owner and mode of what they cover, so a fresh one is writable.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/root/ /
COPY --from=build /out/registryd /registryd
# A number, because there is no /etc/passwd, and because Kubernetes can only check a number for runAsNonRoot.
USER 65532:65532
# All interfaces of the container; who may connect is decided by how the port is published. The admin
# listener has profiles and control, so it stays inside. The folders are the defaults' places, not
# REGISTRYD_ settings: those would go over a configuration file, and a store that is said is one to mirror
# into, so that its volume would take every image a second time, without a bound.
ENV REGISTRYD_LISTEN=:5000 \
    REGISTRYD_ADMIN=127.0.0.1:5001 \
    XDG_CACHE_HOME=/var/cache \
    XDG_STATE_HOME=/var/lib
EXPOSE 5000
VOLUME ["/var/cache/registryd", "/var/lib/registryd"]
# There is no curl in here, so the binary asks itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/registryd", "status"]
# Exec form: SIGTERM reaches the daemon itself, which is gone within 5 s.
ENTRYPOINT ["/registryd"]
CMD ["serve"]
