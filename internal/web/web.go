// Package web serves GraphiQL from the binary: one page and two assets, which need nothing from any other host. The
// page sends every operation over a WebSocket to the address that it was loaded from, and lets its user write the
// connection_init payload.
//
// The assets are addressed as the page's own address with a query, so that the handler works under any prefix, with or
// without a slash at its end, and its owner routes one address only. Their names carry a hash of their bytes, so they can
// be cached for ever. They are built by ui/build.mjs; ui/README.md says how.
package web

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Options are what the page begins with.
type Options struct {
	Title   string // "GraphiQL" if empty
	Query   string // the first tab's query
	Payload string // the connection_init payload, a JSON object; what the user has entered before wins
}

//go:embed assets/graphiql.js.gz assets/graphiql.css.gz page.html
var files embed.FS

// policy lets the page load and reach its own server only. GraphiQL's dialogs and editors put style elements into the
// page, so styles alone may be inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; " +
	"img-src 'self' data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

type asset struct {
	contentType string
	etag        string
	zipped      []byte
}

// GraphiQL returns a handler for GET of the page, and of its assets at the same path. It fails only if the binary was
// built wrongly.
func GraphiQL(o Options) http.Handler {
	h, err := newHandler(o)
	if err != nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "GraphiQL cannot be shown: "+err.Error(), http.StatusInternalServerError)
		})
	}
	return h
}

type handler struct {
	page   []byte
	etag   string
	assets map[string]asset // by name
}

func newHandler(o Options) (*handler, error) {
	h := &handler{assets: map[string]asset{}}
	js, err := h.add("graphiql", "js", "text/javascript; charset=utf-8")
	if err != nil {
		return nil, err
	}
	css, err := h.add("graphiql", "css", "text/css; charset=utf-8")
	if err != nil {
		return nil, err
	}
	page, err := files.ReadFile("page.html")
	if err != nil {
		return nil, err
	}
	options, err := json.Marshal(map[string]string{"query": o.Query, "payload": o.Payload}) // without <, > and &, which it escapes
	if err != nil {
		return nil, err
	}
	// Not html/template: with it in the binary, the linker keeps every method of every type, which is a fifth of the whole.
	h.page = []byte(strings.NewReplacer(
		"{{.Title}}", html.EscapeString(cmp.Or(o.Title, "GraphiQL")), "{{.JS}}", js, "{{.CSS}}", css, "{{.Options}}", string(options),
	).Replace(string(page)))
	h.etag = etag(h.page)
	return h, nil
}

func (h *handler) add(name, ext, contentType string) (string, error) {
	zipped, err := files.ReadFile("assets/" + name + "." + ext + ".gz")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(zipped)
	unique := fmt.Sprintf("%s-%s.%s", name, hex.EncodeToString(sum[:8]), ext)
	h.assets[unique] = asset{contentType: contentType, etag: etag(zipped), zipped: zipped}
	return unique, nil
}

func etag(b []byte) string {
	sum := sha256.Sum256(b)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if name := r.URL.Query().Get("asset"); name != "" {
		h.serveAsset(w, r, name)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-cache")
	header.Set("Etag", h.etag)
	if r.Header.Get("If-None-Match") == h.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	write(w, r, h.page)
}

func (h *handler) serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	a, ok := h.assets[name]
	if !ok {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "no such asset; reload the page", http.StatusNotFound)
		return
	}
	header := w.Header()
	header.Set("Content-Type", a.contentType)
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("Etag", a.etag)
	header.Set("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if acceptsGzip(r) {
		header.Set("Content-Encoding", "gzip")
		write(w, r, a.zipped)
		return
	}
	plain, err := unzip(a.zipped)
	if err != nil {
		http.Error(w, "the asset cannot be read: "+err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, r, plain)
}

func write(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the client may be gone
}

// acceptsGzip is for clients that are no browser: those all do.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, _ := strings.Cut(part, ";")
		if c := strings.TrimSpace(coding); strings.EqualFold(c, "gzip") || c == "*" {
			q := strings.TrimSpace(params)
			return q != "q=0" && !strings.HasPrefix(q, "q=0.0")
		}
	}
	return false
}

func unzip(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
