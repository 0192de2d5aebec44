package manifest

import (
	"slices"
	"strconv"
	"strings"
)

// Matches reports whether a host of platform p runs an image built for image.
func (p Platform) Matches(image Platform) bool { return p.rank(image) >= 0 }

// Best returns the entry of an index that a host of platform p runs best, as
// containerd chooses it: the nearest variant that is not above the host's own,
// then the 32-bit architecture below it, and the first of equals. Attestations
// and entries without a platform are not considered.
func (p Platform) Best(entries []Descriptor) (Descriptor, bool) {
	best, lowest := -1, 0
	for i := range entries {
		if entries[i].Platform == nil || entries[i].IsAttestation() {
			continue
		}
		r := p.rank(*entries[i].Platform)
		if r >= 0 && (best < 0 || r < lowest) {
			best, lowest = i, r
		}
	}
	if best < 0 {
		return Descriptor{}, false
	}
	return entries[best], true
}

// rank returns how far image is from what a host of platform p would like best,
// 0 at best, or -1 if the host does not run it.
func (p Platform) rank(image Platform) int {
	p, image = p.Normalize(), image.Normalize()
	if p.OS != image.OS || !p.runsVersion(image.OSVersion) {
		return -1
	}
	for i, c := range p.runs() {
		if c.architecture == image.Architecture && c.variant == image.Variant {
			// Of two that differ in os.features alone the one without
			// demands that p does not state is the nearer.
			r := 2 * i
			for _, f := range image.OSFeatures {
				if !slices.Contains(p.OSFeatures, f) {
					return r + 1
				}
			}
			return r
		}
	}
	return -1
}

// runsVersion compares os.version, which only Windows uses: its first three
// numbers are the build, and a container needs its host's. A platform without one
// runs any.
func (p Platform) runsVersion(image string) bool {
	if p.OSVersion == "" || image == "" {
		return true
	}
	return windowsBuild(p.OSVersion) == windowsBuild(image)
}

// windowsBuild returns "10.0.17763" of "10.0.17763.6893".
func windowsBuild(version string) string {
	parts := strings.SplitN(version, ".", 4)
	return strings.Join(parts[:min(len(parts), 3)], ".")
}

// A cpu is an architecture and variant.
type cpu struct{ architecture, variant string }

// runs lists what a host of the normalized platform p runs, best first.
func (p Platform) runs() []cpu {
	own := cpu{p.Architecture, p.Variant}
	switch p.Architecture {
	case "amd64":
		return append(amd64Below(own), cpu{"386", ""})
	case "arm":
		return armBelow(own)
	case "arm64":
		return append(arm64Below(own), armBelow(cpu{"arm", "v8"})...)
	}
	return []cpu{own}
}

// amd64Below goes from v4, v3 or v2 down to v1, which is written without a
// variant.
func amd64Below(own cpu) []cpu {
	list := []cpu{own}
	for v := major(own.variant) - 1; v >= 1; v-- {
		c := cpu{"amd64", "v" + strconv.Itoa(v)}
		if v == 1 {
			c.variant = ""
		}
		list = append(list, c)
	}
	return list
}

// armBelow goes down to v5, the oldest that Linux images are built for.
func armBelow(own cpu) []cpu {
	list := []cpu{own}
	for v := major(own.variant) - 1; v >= 5; v-- {
		list = append(list, cpu{"arm", "v" + strconv.Itoa(v)})
	}
	return list
}

// arm64Below goes down the minor versions: v9.x includes v8.(x+5) and what is
// below (Arm architecture reference manual). v8.0 is written without a variant
// and v9.0 as v9.
func arm64Below(own cpu) []cpu {
	list := []cpu{own}
	maj, min := arm64Version(own.variant)
	for {
		switch {
		case min > 0:
			min--
		case maj == 9:
			maj, min = 8, 5
		default:
			return list
		}
		c := cpu{"arm64", "v" + strconv.Itoa(maj) + "." + strconv.Itoa(min)}
		if min == 0 {
			c.variant = map[int]string{8: "", 9: "v9"}[maj]
		}
		list = append(list, c)
	}
}

// maxArm64Minor bounds the minor versions gone through; the newest are v8.9 and
// v9.7.
const maxArm64Minor = 15

// arm64Version splits "v9.2"; a variant that is none is taken for v8.0.
func arm64Version(variant string) (major, minor int) {
	switch {
	case variant == "v9":
		return 9, 0
	case strings.HasPrefix(variant, "v8."):
		major = 8
	case strings.HasPrefix(variant, "v9."):
		major = 9
	default:
		return 8, 0
	}
	minor, err := strconv.Atoi(variant[len("v8."):])
	if err != nil || minor < 0 || minor > maxArm64Minor {
		return 8, 0
	}
	return major, minor
}

// maxVariant bounds the variants gone through: v4 of amd64, v8 of arm.
const maxVariant = 9

// major returns 7 of "v7", or 0 if that is not what variant looks like.
func major(variant string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(variant, "v"))
	if err != nil || n > maxVariant {
		return 0
	}
	return n
}
