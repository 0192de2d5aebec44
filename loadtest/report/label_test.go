package report

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// TestNamesInPicturesAreApart: in the reports that people meet, no two names of
// lines cover each other and none leaves its picture.
func TestNamesInPicturesAreApart(t *testing.T) {
	names := 0
	for name, r := range samples() {
		root, _ := render(t, r)
		for _, svg := range find(root, "svg") {
			var boxes []box
			for _, text := range find(svg, "text") {
				if class := strings.Fields(attribute(text, "class")); len(class) != 3 || class[0] != "label" {
					continue
				}
				b := boxOf(t, text)
				width, _ := strconv.ParseFloat(attribute(svg, "width"), 64)
				if b.x1 < 0 || b.x2 > width {
					t.Errorf("%s, %s: %q leaves the picture: %v", name, textOf(find(svg, "title")[0]), textOf(text), b)
				}
				for _, other := range boxes {
					if b.overlaps(other) {
						t.Errorf("%s, %s: %q covers another name: %v and %v", name, textOf(find(svg, "title")[0]), textOf(text), b, other)
					}
				}
				boxes = append(boxes, b)
				names++
			}
		}
	}
	if names < 50 {
		t.Errorf("only %d names were looked at", names)
	}
}

// boxOf goes the way back from what labeller.put wrote, less the tenth that a
// coordinate is rounded to.
func boxOf(t *testing.T, text *html.Node) box {
	x, err := strconv.ParseFloat(attribute(text, "x"), 64)
	if err != nil {
		t.Fatal(err)
	}
	y, err := strconv.ParseFloat(attribute(text, "y"), 64)
	if err != nil {
		t.Fatal(err)
	}
	width := textWidth(textOf(text))
	if attribute(text, "text-anchor") == "end" {
		x -= width
	}
	return box{x + .1, y - 4 - labelHeight/2 + .1, x + width - .1, y - 4 + labelHeight/2 - .1}
}
