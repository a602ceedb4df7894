package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPageLoadsOnlyItsOwnAssets(t *testing.T) {
	h := GraphiQL(Options{Title: "Shop <3", Query: `subscription { a(b: "</script><script>alert(1)</script>") }`})
	r := get(t, h, "/any/prefix")
	page := body(t, r)
	if strings.Contains(page, "alert(1)</script>") {
		t.Errorf("options break out of their element:\n%s", page)
	}
	if p := r.Header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") {
		t.Errorf("policy %q", p)
	}
	refs := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	assets := 0
	for _, ref := range refs {
		switch {
		case strings.HasPrefix(ref[1], "?asset="):
			assets++
			a := get(t, h, "/any/prefix"+ref[1], "Accept-Encoding", "br, gzip")
			if a.StatusCode != http.StatusOK || a.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(a.Header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s: %s %v", ref[1], a.Status, a.Header)
			}
			plain := get(t, h, "/any/prefix"+ref[1])
			if plain.Header.Get("Content-Encoding") != "" || len(body(t, plain)) < len(body(t, a)) {
				t.Errorf("%s: a client without gzip gets it compressed", ref[1])
			}
			if again := get(t, h, "/"+ref[1], "If-None-Match", a.Header.Get("Etag")); again.StatusCode != http.StatusNotModified {
				t.Errorf("%s: %s for a known tag", ref[1], again.Status)
			}
		case ref[1] != "data:,":
			t.Errorf("the page refers to %s", ref[1])
		}
	}
	if assets != 2 {
		t.Errorf("%d assets", assets)
	}
}

func TestUnknownAssetAndMethod(t *testing.T) {
	h := GraphiQL(Options{})
	if r := get(t, h, "/?asset=../web.go"); r.StatusCode != http.StatusNotFound {
		t.Error(r.Status)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}
