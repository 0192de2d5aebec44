package images

import (
	"testing"

	"hostlocal/registryd/upstream/hubtest"
)

func TestMain(m *testing.M) { hubtest.Main(m) }
