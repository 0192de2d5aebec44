package images

import (
	"hostlocal/loadtest"
	"hostlocal/loadtest/hub"
	"hostlocal/loadtest/line"
)

// Shape returns a scenario's line as a hub knows it.
func Shape(l loadtest.Line) hub.Shape {
	return hub.Shape{Latency: l.Latency, ConnectionRate: int64(l.ConnectionRate), TotalRate: int64(l.TotalRate),
		Token: l.Token, CDN: l.CDN, Pulls: l.Pulls}
}

// Faults returns those of a scenario that happen to the upstream or to the bucket,
// for hub.Hub.Play and bucket.Proxy.Play.
func Faults(faults []loadtest.Fault, on string) []line.Fault {
	var out []line.Fault
	for _, f := range faults {
		if f.On == on || f.On == "" && on == "upstream" {
			out = append(out, line.Fault{At: f.At, For: f.For, Kind: f.Kind, Value: f.Value})
		}
	}
	return out
}

// Traffic returns what a hub was asked and what it sent, as a measurement has it.
// Requests are by hub.Kind; a blob that the CDN sent was asked for twice.
func Traffic(h *hub.Hub) loadtest.Traffic {
	c := h.Counts()
	t := loadtest.Traffic{Requests: map[string]int{}, Sent: c.Sent, Wire: c.Wire, Fetched: c.Fetched, Refused: c.Refused}
	for kind, n := range c.Requests {
		t.Requests[string(kind)] = n
	}
	return t
}
