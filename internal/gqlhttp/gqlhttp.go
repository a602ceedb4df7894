// Package gqlhttp answers queries over HTTP, GET and POST, as the GraphQL-over-HTTP specification has it:
// https://graphql.github.io/graphql-over-http/draft/. Subscriptions go over sockets; here they are refused with a reason.
//
// A Handler keeps nothing between requests and is used by many goroutines at once. It runs no operation that changes
// anything, so that a page of another origin can do no harm with a GET; its answers are JSON and never HTML.
package gqlhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/gql"
)

// Options say what a Handler serves.
type Options struct {
	// Schema returns the schema of now; nil: there is none yet, and clients are told to come again.
	Schema func() *gql.Schema
	// Identify says who asks. Its error is not told to the client.
	Identify func(*http.Request) (*auth.Identity, error)
	// MaxBytes bounds a request's body. Zero: 1 MiB.
	MaxBytes int64
}

// Handler answers GraphQL requests.
type Handler struct{ options Options }

// New returns a Handler.
func New(o Options) *Handler {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 20
	}
	return &Handler{o}
}

// The media types of answers. With the first the status tells how the request went; with the second, which older clients
// want, it is 200 for whatever could be read as a request.
const (
	graphqlResponse = "application/graphql-response+json"
	plainJSON       = "application/json"
)

// refusal is a request that is not answered with a result.
type refusal struct {
	status  int
	code    string
	message string
}

func (e *refusal) Error() string { return e.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	media, ok := negotiate(r.Header.Values("Accept"))
	if !ok {
		write(w, plainJSON, http.StatusNotAcceptable, refused("NOT_ACCEPTABLE", "answers are "+graphqlResponse+" or "+plainJSON))
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		write(w, media, http.StatusMethodNotAllowed, refused("METHOD_NOT_ALLOWED", "GraphQL is asked by GET or POST"))
		return
	}
	status, body := h.answer(w, r, media)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	write(w, media, status, body)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, media string) (status int, body []byte) {
	schema := h.options.Schema()
	if schema == nil {
		return http.StatusServiceUnavailable, refused("STARTING", "the server is starting; try again")
	}
	id, err := h.options.Identify(r)
	if err != nil {
		return http.StatusUnauthorized, refused("FORBIDDEN", "not authorized")
	}
	request, bad := h.read(w, r)
	if bad != nil {
		return bad.status, refused(bad.code, bad.message)
	}
	body, executed := schema.Answer(r.Context(), request, id)
	if !executed && media == graphqlResponse {
		return http.StatusBadRequest, body
	}
	return http.StatusOK, body
}

// read takes the request from the query string or the body.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (gql.Request, *refusal) {
	if r.Method == http.MethodGet {
		q := r.URL.Query()
		fields := map[string]json.RawMessage{}
		for _, name := range []string{"query", "operationName"} {
			if q.Has(name) {
				fields[name], _ = json.Marshal(q.Get(name)) // a string always marshals
			}
		}
		for _, name := range []string{"variables", "extensions"} {
			if text := q.Get(name); text != "" {
				fields[name] = json.RawMessage(text)
			}
		}
		return parameters(fields)
	}
	if bad := contentType(r.Header.Get("Content-Type")); bad != nil {
		return gql.Request{}, bad
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.options.MaxBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return gql.Request{}, refuse(http.StatusRequestEntityTooLarge, "LIMIT_EXCEEDED", "the body has more than %d bytes", h.options.MaxBytes)
	case err != nil:
		return gql.Request{}, refuse(http.StatusBadRequest, "BAD_REQUEST", "the body broke off")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return gql.Request{}, refuse(http.StatusBadRequest, "BAD_REQUEST", "the body is no JSON object with a GraphQL request")
	}
	return parameters(fields)
}

func contentType(header string) *refusal {
	media, params, err := mime.ParseMediaType(header)
	switch {
	case err != nil || media != plainJSON:
		return refuse(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "the body must be %s, and Content-Type must say so", plainJSON)
	case params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8"):
		return refuse(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "the body must be in UTF-8")
	}
	return nil
}

// parameters checks the members of a request, each of its type or null.
func parameters(fields map[string]json.RawMessage) (r gql.Request, bad *refusal) {
	text := func(name string, to *string) {
		raw := fields[name]
		if absent(raw) || bad != nil {
			return
		}
		if raw[0] != '"' || json.Unmarshal(raw, to) != nil {
			bad = refuse(http.StatusBadRequest, "BAD_REQUEST", "%s must be a string", name)
		}
	}
	object := func(name string) []byte {
		raw := bytes.TrimSpace(fields[name])
		if absent(raw) || bad != nil {
			return nil
		}
		if raw[0] != '{' || !json.Valid(raw) {
			bad = refuse(http.StatusBadRequest, "BAD_REQUEST", "%s must be a JSON object", name)
		}
		return raw
	}
	text("query", &r.Query)
	text("operationName", &r.OperationName)
	r.Variables, r.Extensions = object("variables"), object("extensions")
	if bad == nil && absent(fields["query"]) {
		bad = refuse(http.StatusBadRequest, "BAD_REQUEST", "query is missing")
	}
	return r, bad
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// refused is an answer that is only errors.
func refused(code, message string) []byte {
	b, err := json.Marshal(map[string]any{"errors": []any{map[string]any{
		"message": message, "extensions": map[string]any{"code": code},
	}}})
	if err != nil { // strings always marshal
		return []byte(`{"errors":[{"message":"internal error"}]}`)
	}
	return b
}

func write(w http.ResponseWriter, media string, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", media+"; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept")
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // a client that is gone
}
