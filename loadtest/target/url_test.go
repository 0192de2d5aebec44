package target

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"hostlocal/loadtest/child"
)

func TestTargetsThatCannotBe(t *testing.T) {
	teapot := httptest.NewServer(http.NotFoundHandler())
	defer teapot.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	for name, want := range map[string]error{
		"registrid":                      ErrUnknown,
		"http://":                        ErrUnknown,
		"http://user@127.0.0.1":          ErrUnknown,
		"http://127.0.0.1/cache":         ErrUnknown,
		"http://192.0.2.1:5000":          ErrRemote,
		"http://[2001:db8::1]":           ErrRemote,
		teapot.URL:                       ErrUnreachable,
		dead.URL:                         ErrUnreachable,
		teapot.URL + ",http://192.0.2.1": ErrUnreachable,
	} {
		f, err := Start(t.Context(), name, Options{})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err == nil {
			f.Close()
		}
	}
}

func TestRunningRegistriesAreOnlyPointedAt(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "some/1")
		w.WriteHeader(http.StatusUnauthorized) // asks for a token, as clients know
	}))
	defer s.Close()
	f, err := Start(t.Context(), s.URL+"/,"+s.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Targets) != 2 || f.Targets[0].URL != s.URL || f.Version != "some/1" {
		t.Errorf("got %+v", f)
	}
	select {
	case <-f.Died():
		t.Error("what was not started cannot have ended")
	default:
	}
}

func TestMissingBinarySaysHowToGetIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("REGISTRYD_TEST_BIN", t.TempDir())
	for name, given := range map[string]map[string]string{"zot": nil, "distribution": {"distribution": "/nowhere/registry"}} {
		if _, err := Start(t.Context(), name, Options{Binaries: given}); !errors.Is(err, child.ErrBinary) {
			t.Errorf("%s: %v, want %v", name, err, child.ErrBinary)
		}
	}
}
