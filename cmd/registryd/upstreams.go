package main

import "time"

// dockerHub is the name of the upstream that a bare image name means to every
// client.
const dockerHub = "docker.io"

// defaultTTL is how long a tag is believed without asking. It is short enough that
// a deploy right after a push gets the new image, and long enough that the pods of
// one deploy, which come within seconds, cost the upstream one question.
const defaultTTL = time.Minute

// newUpstream is an upstream of which nothing but its name was said.
func newUpstream(name string) upstreamConfig {
	u := upstreamConfig{name: name, url: "https://" + name}
	if name == dockerHub { // the name of the service is not the name of its API
		u.url = "https://registry-1.docker.io"
		u.hosts = []string{"registry-1.docker.io", "index.docker.io"}
	}
	return u
}

// newTag is a rule of which nothing was said.
func newTag() tagConfig { return tagConfig{match: "*", policy: "ttl", ttl: defaultTTL} }

// defaultUpstreams are the public registries that most images come from.
func defaultUpstreams() []upstreamConfig {
	var us []upstreamConfig
	for _, name := range []string{
		dockerHub, "ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "public.ecr.aws", "mcr.microsoft.com",
	} {
		u := newUpstream(name)
		u.tags = []tagConfig{newTag()}
		us = append(us, u)
	}
	return us
}
