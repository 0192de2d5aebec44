package hubtest

import "hostlocal/loadtest/hub"

// What a test says of a hub has its names here too.
type (
	Auth     = hub.Auth
	Content  = hub.Content
	Fault    = hub.Fault
	Gate     = hub.Gate
	Image    = hub.Image
	Injected = hub.Injected
	Kind     = hub.Kind
	Matcher  = hub.Matcher
	Option   = hub.Option
	Request  = hub.Request
)

// The kinds of requests.
const (
	Ping         = hub.Ping
	HeadManifest = hub.HeadManifest
	GetManifest  = hub.GetManifest
	HeadBlob     = hub.HeadBlob
	GetBlob      = hub.GetBlob
	FromCDN      = hub.FromCDN
	Tags         = hub.Tags
	Token        = hub.Token
	Other        = hub.Other
)

// Options of New, and contents.
var (
	TLS       = hub.TLS
	Seed      = hub.Seed
	Literal   = hub.Literal
	Generated = hub.Generated
)

// Matchers pick the requests that a fault meets.
var (
	All       = hub.All
	And       = hub.And
	Blob      = hub.Blob
	Blobs     = hub.Blobs
	CDN       = hub.CDN
	Manifest  = hub.Manifest
	Manifests = hub.Manifests
	Not       = hub.Not
	Of        = hub.Of
	Ref       = hub.Ref
	Repo      = hub.Repo
)

// Faults, and what combines them.
var (
	After         = hub.After
	Chunked       = hub.Chunked
	ContentLength = hub.ContentLength
	CutEvery      = hub.CutEvery
	Drop          = hub.Drop
	Endless       = hub.Endless
	ErrorPage     = hub.ErrorPage
	Flip          = hub.Flip
	Gzip          = hub.Gzip
	Header        = hub.Header
	Hold          = hub.Hold
	HoldAfter     = hub.HoldAfter
	Latency       = hub.Latency
	Long          = hub.Long
	Negotiate     = hub.Negotiate
	NewGate       = hub.NewGate
	NoDigest      = hub.NoDigest
	NoHead        = hub.NoHead
	NoRanges      = hub.NoRanges
	Rate          = hub.Rate
	RedirectTo    = hub.RedirectTo
	ResetEvery    = hub.ResetEvery
	Short         = hub.Short
	Stall         = hub.Stall
	StallAfter    = hub.StallAfter
	Status        = hub.Status
	Times         = hub.Times
	ToCDN         = hub.ToCDN
	TooMany       = hub.TooMany
	WrongRange    = hub.WrongRange
	Zero          = hub.Zero
)
