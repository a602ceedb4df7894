# The server alone: one static binary, the certificates to trust, no shell. `notifyql health` is its health check.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
ENV GOWORK=off
COPY go.mod go.sum ./
COPY bus/nats/go.mod bus/nats/go.sum bus/nats/
COPY bus/redis/go.mod bus/redis/go.sum bus/redis/
COPY cmd/server/go.mod cmd/server/go.sum cmd/server/
RUN --mount=type=cache,target=/go/pkg/mod go mod download -C cmd/server
COPY . .
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -C cmd/server -tags grpcnotrace -trimpath -buildvcs=false -ldflags="-s -w" -o /notifyql .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /notifyql /notifyql
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s CMD ["/notifyql", "health"]
ENTRYPOINT ["/notifyql"]
CMD ["serve"]
