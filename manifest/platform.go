package manifest

// A Platform is what an image was built for, in the words of GOOS and GOARCH
// (OCI image-spec, image-index.md, "platform").
type Platform struct {
	OS           string   `json:"os"`
	Architecture string   `json:"architecture"`
	Variant      string   `json:"variant,omitempty"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
}
