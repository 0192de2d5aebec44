package hub

import (
	"encoding/json"
	"fmt"

	"hostlocal/manifest"
)

// An Image is what AddImage, AddDocker and AddIndex put into the hub.
type Image struct {
	Repo, Tag string
	Digest    manifest.Digest // of Body
	MediaType string
	Body      []byte // the manifest or index
	Config    Content
	Layers    []Content
	Platform  manifest.Platform
	Images    []Image // of an index: one a platform
	Attests   []Image // of an index: one attestation a platform, as buildkit makes them
}

// Bytes returns what a pull of the image costs, for an index of all platforms
// without attestations: manifests, configs and layers, each digest once.
func (i Image) Bytes() int64 {
	seen := map[manifest.Digest]bool{}
	var sum int64
	var add func(i Image)
	add = func(i Image) {
		once := func(d manifest.Digest, n int64) {
			if !d.IsZero() && !seen[d] {
				seen[d] = true
				sum += n
			}
		}
		once(i.Digest, int64(len(i.Body)))
		once(i.Config.Digest, i.Config.Size)
		for _, l := range i.Layers {
			once(l.Digest, l.Size)
		}
		for _, p := range i.Images {
			add(p)
		}
	}
	add(i)
	return sum
}

// Name returns repo:tag.
func (i Image) Name() string { return i.Repo + ":" + i.Tag }

// AddImage puts an OCI image for linux/amd64 under repo and tag; with an empty tag
// it is there by digest only.
func (h *Hub) AddImage(repo, tag string, layers ...Content) Image {
	return h.addImage(repo, tag, manifest.Platform{OS: "linux", Architecture: "amd64"}, false, layers)
}

// AddDocker is AddImage with a Docker schema 2 manifest.
func (h *Hub) AddDocker(repo, tag string, layers ...Content) Image {
	return h.addImage(repo, tag, manifest.Platform{OS: "linux", Architecture: "amd64"}, true, layers)
}

// AddIndex puts an OCI index of one image a platform with an attestation for
// each, as buildkit writes them. The layers are those of the first platform; the
// other platforms have generated layers of the same sizes.
func (h *Hub) AddIndex(repo, tag string, platforms []manifest.Platform, layers ...Content) Image {
	all := make([][]Content, len(platforms))
	for i := range platforms {
		all[i] = layers
		if i > 0 {
			all[i] = make([]Content, len(layers))
			for k, l := range layers {
				all[i][k] = h.Layer(l.Size)
			}
		}
	}
	return h.AddPlatforms(repo, tag, platforms, all)
}

// AddPlatforms is AddIndex with the layers of each platform given.
func (h *Hub) AddPlatforms(repo, tag string, platforms []manifest.Platform, layers [][]Content) Image {
	idx := Image{Repo: repo, Tag: tag, MediaType: manifest.OCIIndex}
	var list []descriptor
	for i, p := range platforms {
		img := h.addImage(repo, "", p, false, layers[i])
		idx.Images = append(idx.Images, img)
		list = append(list, descriptor{MediaType: img.MediaType, Digest: img.Digest, Size: int64(len(img.Body)), Platform: &p})
	}
	for _, img := range idx.Images {
		att := h.addAttestation(repo, img)
		idx.Attests = append(idx.Attests, att)
		list = append(list, descriptor{MediaType: att.MediaType, Digest: att.Digest, Size: int64(len(att.Body)),
			Platform: &att.Platform, Annotations: map[string]string{
				"vnd.docker.reference.digest": img.Digest.String(),
				"vnd.docker.reference.type":   "attestation-manifest",
			}})
	}
	idx.Body = encode(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, idx.MediaType, list})
	idx.Digest = h.AddManifest(repo, tag, idx.MediaType, idx.Body)
	return idx
}

func (h *Hub) addImage(repo, tag string, p manifest.Platform, docker bool, layers []Content) Image {
	img := Image{Repo: repo, Tag: tag, MediaType: manifest.OCIManifest, Platform: p, Layers: layers}
	configType, layerType := "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
	if docker {
		img.MediaType = manifest.DockerManifest
		configType, layerType = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"
	}
	diffs := []manifest.Digest{}
	list := []descriptor{}
	for _, l := range layers {
		h.AddBlob(repo, l)
		diffs = append(diffs, l.Digest)
		list = append(list, descriptor{MediaType: layerType, Digest: l.Digest, Size: l.Size})
	}
	img.Config = Literal(encode(map[string]any{
		"architecture": p.Architecture, "os": p.OS, "variant": p.Variant,
		"config": map[string]any{"Cmd": []string{"/" + repo, tag}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}))
	h.AddBlob(repo, img.Config)
	img.Body = manifestBody(img.MediaType, descriptor{MediaType: configType, Digest: img.Config.Digest, Size: img.Config.Size}, list)
	img.Digest = h.AddManifest(repo, tag, img.MediaType, img.Body)
	return img
}

// addAttestation adds a manifest of platform unknown/unknown with one in-toto layer.
func (h *Hub) addAttestation(repo string, of Image) Image {
	img := Image{Repo: repo, MediaType: manifest.OCIManifest, Platform: manifest.Platform{OS: "unknown", Architecture: "unknown"}}
	img.Config = Literal(encode(map[string]any{"architecture": "unknown", "os": "unknown", "config": map[string]any{}}))
	statement := Literal(fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"digest":{"sha256":%q}}]}`, of.Digest.Hex()))
	img.Layers = []Content{statement}
	h.AddBlob(repo, img.Config)
	h.AddBlob(repo, statement)
	img.Body = manifestBody(img.MediaType,
		descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: img.Config.Digest, Size: img.Config.Size},
		[]descriptor{{MediaType: "application/vnd.in-toto+json", Digest: statement.Digest, Size: statement.Size}})
	img.Digest = h.AddManifest(repo, "", img.MediaType, img.Body)
	return img
}

type descriptor = manifest.Descriptor

func manifestBody(mediaType string, config descriptor, layers []descriptor) []byte {
	return encode(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, mediaType, config, layers})
}

func encode(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	return b
}
