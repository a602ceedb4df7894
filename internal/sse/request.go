package sse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/notifyql/notifyql/internal/ws"
)

// tokenHeader and the parameter token carry a reservation's token.
const tokenHeader = "X-GraphQL-Event-Stream-Token"

func tokenOf(r *http.Request) string {
	if t := r.Header.Get(tokenHeader); t != "" {
		return t
	}
	return r.URL.Query().Get("token")
}

// Wants reports whether a request is for a Handler of this package rather than for what else has the same address.
func Wants(r *http.Request) bool {
	return r.Method == http.MethodPut || r.Method == http.MethodDelete || acceptsEvents(r) || tokenOf(r) != ""
}

func acceptsEvents(r *http.Request) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(r.Header.Values("Accept"), ","), ","), func(one string) bool {
		typ, _, err := mime.ParseMediaType(one)
		return err == nil && typ == "text/event-stream"
	})
}

// badRequest is an error of the client's, and the status that says so.
type badRequest struct {
	status int
	text   string
}

func (e *badRequest) Error() string { return e.text }

// request is an operation, and what its extensions say to us.
type request struct {
	ws.Operation
	id     string // the operation's, on a reserved connection
	params []byte // what connection_init would have said, a JSON object or nil
}

func readRequest(r *http.Request, maxBytes int64) (request, error) {
	var text []byte
	var err error
	switch r.Method {
	case http.MethodGet:
		text, err = readQuery(r)
	case http.MethodPost:
		text, err = readBody(r, maxBytes)
	}
	if err != nil {
		return request{}, err
	}
	op, err := ws.ParseOperation(text)
	if err != nil {
		return request{}, &badRequest{http.StatusBadRequest, err.Error()}
	}
	q := request{Operation: op}
	if op.Extensions == nil {
		return q, nil
	}
	var extensions struct {
		OperationID      json.RawMessage `json:"operationId"`
		ConnectionParams json.RawMessage `json:"connectionParams"`
	}
	if err := json.Unmarshal(op.Extensions, &extensions); err != nil {
		return request{}, &badRequest{http.StatusBadRequest, "the extensions are not JSON"}
	}
	if id := extensions.OperationID; len(id) > 0 && string(id) != "null" && json.Unmarshal(id, &q.id) != nil {
		q.id = string(id) // a number, perhaps
	}
	if p := extensions.ConnectionParams; len(p) > 0 && p[0] == '{' {
		q.params = p
	}
	return q, nil
}

func readBody(r *http.Request, maxBytes int64) ([]byte, error) {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/json" {
		return nil, &badRequest{http.StatusUnsupportedMediaType, "the body must be application/json"}
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &badRequest{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", maxBytes)}
	case err != nil:
		return nil, &badRequest{http.StatusBadRequest, "the body could not be read"}
	}
	return text, nil
}

// readQuery makes of the parameters of a GET what a POST has in its body.
func readQuery(r *http.Request) ([]byte, error) {
	params := r.URL.Query()
	fields := map[string]any{}
	for _, name := range []string{"query", "operationName"} {
		if params.Has(name) {
			fields[name] = params.Get(name)
		}
	}
	for _, name := range []string{"variables", "extensions"} {
		if text := params.Get(name); text != "" {
			fields[name] = json.RawMessage(text)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, &badRequest{http.StatusBadRequest, "the parameter variables or extensions is not JSON"}
	}
	return text, nil
}
