package sse

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequest: whatever a client asks, there is an operation, or a status that says what is wrong.
func FuzzRequest(f *testing.F) {
	f.Add("query=x&variables={}", `{"query":"x","variables":{},"extensions":{"operationId":"1","connectionParams":{"a":1}}}`)
	f.Add("query=%ff&extensions=[", `{"query":"x","extensions":{"operationId":1e99}}`)
	f.Add("extensions={\"operationId\":{}}&query=", "\xff")
	f.Fuzz(func(t *testing.T, query, body string) {
		get := httptest.NewRequest(http.MethodGet, "/", nil)
		get.URL = &url.URL{Path: "/", RawQuery: query}
		post := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		post.Header.Set("Content-Type", "application/json")
		for _, r := range []*http.Request{get, post} {
			q, err := readRequest(r, 1000)
			if err != nil {
				w := httptest.NewRecorder()
				refuse(w, err)
				if w.Code < 400 || w.Code > 499 || !json.Valid(w.Body.Bytes()) {
					t.Fatalf("%v was answered with %d %s", err, w.Code, w.Body)
				}
				continue
			}
			if q.params != nil && !json.Valid(q.params) {
				t.Fatalf("params %q", q.params)
			}
		}
	})
}

// FuzzEvents: any result arrives as it is, as one event, with any id; here read as the standard says.
func FuzzEvents(f *testing.F) {
	f.Add("1", "{\"data\":\r\n{\"a\" : [1,\n\n2]}}")
	f.Add("\u2028\n\"", `{"errors":[]}`)
	f.Fuzz(func(t *testing.T, id, result string) {
		if !json.Valid([]byte(result)) || !utf8.ValidString(id) {
			return
		}
		want := strings.NewReplacer("\n", " ", "\r", " ").Replace(result)
		for _, single := range []bool{false, true} {
			c := &conn{single: single}
			b := c.appendComplete(c.appendNext(nil, id, []byte(result)), id)
			parsed := parseEvents(b)
			if len(parsed) != 2 || parsed[0][0] != "next" || parsed[1][0] != "complete" {
				t.Fatalf("%q is read as %q", b, parsed)
			}
			data := []byte(parsed[0][1])
			if single {
				var wrapped struct {
					ID      string
					Payload json.RawMessage
				}
				if err := json.Unmarshal(data, &wrapped); err != nil || wrapped.ID != id {
					t.Fatalf("%q: %v", data, err)
				}
				data = wrapped.Payload
			}
			if strings.TrimSpace(string(data)) != strings.TrimSpace(want) {
				t.Fatalf("%q arrives as %q", result, data)
			}
		}
	})
}

// parseEvents gives each event's type and data.
func parseEvents(b []byte) (events [][2]string) {
	b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	var typ, data string
	for line := range strings.SplitSeq(string(b), "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data != "":
			events = append(events, [2]string{typ, strings.TrimSuffix(data, "\n")})
			typ, data = "", ""
		case field == "event":
			typ = value
		case field == "data":
			data += value + "\n"
		}
	}
	return events
}
