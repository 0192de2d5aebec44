// Package clients holds no code, only tests: the built registryd binary with
// the programs that it lives among. Docker, containerd, BuildKit, podman,
// buildah, skopeo and crane pull through it; a stock registry stands behind it
// as the hub and beside it as the oracle of the bucket's layout; MinIO and
// versitygw are the bucket; systemd boots it, and Docker builds and composes it.
//
// All of it runs in namespaces of its own (namespace_test.go): network with
// only a loopback, so that docker.io is what the tests say it is and the
// ports are theirs; mounts, so that what a container engine mounts is gone
// with it; processes, so that no daemon outlives the tests, however they end.
// That needs root. Images are made of Debian's packages (images_test.go).
package clients
