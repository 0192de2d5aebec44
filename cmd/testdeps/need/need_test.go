package need

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMissingServerSkipsAndSaysHowToGetIt checks the three things a person
// sees: the test is skipped, the message names the command, the list has it.
func TestMissingServerSkipsAndSaysHowToGetIt(t *testing.T) {
	list := filepath.Join(t.TempDir(), "skipped")
	t.Setenv("REGISTRYD_TEST_BIN", t.TempDir())
	t.Setenv("REGISTRYD_TEST_SKIPPED", list)
	t.Setenv("REGISTRYD_TEST_REQUIRE", "")

	var skipped bool
	t.Run("inner", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Binary(t, "versitygw")
		t.Error("went on without versitygw")
	})
	if !skipped {
		t.Error("the test was not skipped")
	}
	got, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{t.Name() + "/inner", "versitygw", "go run ./cmd/testdeps build versitygw"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the list %q lacks %q", got, want)
		}
	}
}

func TestToolOfTheSystemIsFound(t *testing.T) {
	if path := Binary(t, "sh"); !filepath.IsAbs(path) {
		t.Errorf("Binary(sh) = %q, want an absolute path", path)
	}
}

func TestMissingToolNamesItsPackage(t *testing.T) {
	debian["no-such-tool"] = "its-package"
	defer delete(debian, "no-such-tool")
	_, err := Find("no-such-tool")
	if err == nil || !strings.Contains(err.Error(), "apt-get install its-package") {
		t.Errorf("Find: %v, want the package to install", err)
	}
}

// TestOtherProgramIsNotBuilt puts a program of another module under a
// server's name: its own record of where it came from must be believed, not
// its name.
func TestOtherProgramIsNotBuilt(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "crane")); err != nil {
		t.Fatal(err)
	}
	for _, s := range Servers {
		if s.Name == "crane" && s.Built(dir) {
			t.Error("a test binary counts as crane")
		}
	}
}
